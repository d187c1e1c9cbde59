"""The endpoints of the client's table."""

from __future__ import annotations

from pico_async._engine import endpoints

ENDPOINTS = [value for value in vars(endpoints).values() if isinstance(value, endpoints.Endpoint)]
