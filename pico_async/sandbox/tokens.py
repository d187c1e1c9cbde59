"""
Tokens and the idle rule of their sessions.

A token is three base64url parts, signed with HMAC-SHA512, as the reference's example `eyJhbGciOiJIUzUxMiJ9...` is.
Nothing in it expires: the session behind it does, on the server. It lives 30 minutes and is extended by a request
only when 20 minutes or less remain, so 20 idle minutes are always survived, and 30 only by luck.

Source: API reference v0.4, "Authentication" (30 minutes between requests). Not documented in v0.4: the 20 minutes,
and that a new token leaves the older ones alive.
"""

import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from uuid import uuid4

SESSION_S = 30 * 60.0
EXTEND_AT_S = 20 * 60.0


def _part(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


class Tokens:
    """Every token in circulation and when its session ends. Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(64)
        self._ends_at: dict[str, float] = {}

    def issue(self, now: float) -> str:
        """Make a token whose session begins at *now*; older tokens stay as they are."""
        header = _part(b'{"alg":"HS512"}')
        payload = _part(json.dumps({"login_user_key": str(uuid4())}, separators=(",", ":")).encode())
        signature = _part(hmac.digest(self._secret, f"{header}.{payload}".encode(), "sha512"))
        token = f"{header}.{payload}.{signature}"
        self._ends_at[token] = now + SESSION_S
        return token

    def use(self, token: str, now: float) -> bool:
        """
        Say whether *token* is good at *now*, and extend its session if 20 minutes or less remain.

        A session that has exactly 30 minutes behind it is still good: the reference says "exceeds 30 minutes".
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
        """Make one token stale; one that is not known is no error."""
        self._ends_at.pop(token, None)

    def expire_all(self) -> None:
        """Make every token now in circulation stale."""
        self._ends_at.clear()
