"""Training: the loop, the cache of what System 2 sees, new policies, and the report on a video model."""
