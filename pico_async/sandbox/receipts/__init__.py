"""Delivery receipts as the sandbox makes and delivers them."""
