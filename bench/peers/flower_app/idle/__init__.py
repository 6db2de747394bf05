"""A Flower app whose sites do no local work."""
