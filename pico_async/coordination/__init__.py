"""What the callers of one API key share: the limiters and the token."""
