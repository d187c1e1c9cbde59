"""Delivery receipts: signed callback URLs, reading, deduplication, and the handler that serves them."""
