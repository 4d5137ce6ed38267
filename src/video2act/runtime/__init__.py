"""What happens while a policy drives a robot: two speeds, one control loop. Knows the nouns and the sockets, no
network."""
