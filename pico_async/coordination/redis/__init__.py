"""Limiters and tokens that the processes of a fleet share over Redis."""
