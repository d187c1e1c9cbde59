"""What a bulk send remembers of each message, and the journal in SQLite."""
