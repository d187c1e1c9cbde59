"""Limiters and tokens that the sessions of one event loop share."""
