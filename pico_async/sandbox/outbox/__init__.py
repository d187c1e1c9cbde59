"""The outbox: the page at the sandbox's root, and what it reads."""
