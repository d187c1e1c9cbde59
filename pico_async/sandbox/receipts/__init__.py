"""Delivery receipts: how they are written, to which targets they may go, and how they are delivered."""
