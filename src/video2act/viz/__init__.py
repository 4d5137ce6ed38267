"""Making visible what System 2 kept of a video, and what an evaluation found."""
