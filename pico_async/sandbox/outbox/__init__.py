"""The outbox: the page at the sandbox's root, its files, and the events that it reads."""
