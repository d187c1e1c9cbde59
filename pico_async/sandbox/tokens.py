"""
Tokens and the idle rule of their sessions.

A token has three base64url parts and a signature by HMAC-SHA512, as the reference's example `eyJhbGciOiJIUzUxMiJ9...`.
The token itself does not expire, but its session on the server does, after 30 minutes. A request extends the session
only if 20 minutes or less remain. So a token always survives 20 idle minutes, and 30 only if it was just extended.

Source: API reference v0.4, "Authentication" (30 minutes between requests). Not documented in v0.4: the 20 minutes, and
that a new token leaves older ones valid.
"""

import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from uuid import uuid4

SESSION_S: float = 30 * 60.0
EXTEND_AT_S: float = 20 * 60.0


def _part(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


class Tokens:
    """Every valid token and the end of its session, in seconds on the caller's clock."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(64)
        self._ends_at: dict[str, float] = {}

    def issue(self, now: float) -> str:
        """Return a new token whose session begins at *now*; older tokens stay valid."""
        header = _part(b'{"alg":"HS512"}')
        payload = _part(json.dumps({"login_user_key": str(uuid4())}, separators=(",", ":")).encode())
        signature = _part(hmac.digest(self._secret, f"{header}.{payload}".encode(), "sha512"))
        token = f"{header}.{payload}.{signature}"
        self._ends_at[token] = now + SESSION_S
        return token

    def use(self, token: str, now: float) -> bool:
        """
        Return whether *token* is valid at *now*, and extend its session if 20 minutes or less remain.

        A session is still valid after exactly 30 minutes: the reference says "exceeds 30 minutes".
        """
        ends_at = self._ends_at.get(token)
        if ends_at is None:
            return False
        remaining_s = ends_at - now
        if remaining_s < 0:
            del self._ends_at[token]
            return False
        if remaining_s <= EXTEND_AT_S:
            self._ends_at[token] = now + SESSION_S
        return True

    def expire(self, token: str) -> None:
        """Make one token stale; an unknown token is no error."""
        self._ends_at.pop(token, None)

    def expire_all(self) -> None:
        self._ends_at.clear()
