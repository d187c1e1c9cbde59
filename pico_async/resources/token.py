"""The token that authenticates every other request."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.models import UserToken


@boundary
class TokenResource:
    """The token: `pico.token`. Calls fetch and renew it by themselves."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ensure(self) -> None:
        """
        Fetch a token, unless there is a shared one.

        Pico may have revoked the shared one. The next call notices it and fetches another.

        Raises:
            NotSentError: Pico was not reached, or the Redis that shares the token was not.
            RateLimitError: For 60 seconds, Pico gave its tokens to other processes of the API key.
            BadRequestError: Pico does not know the username or the API key.
            UnexpectedResponseError: The reply contains no token.
        """
        await self._engine.ensure_token()

    async def get(self) -> UserToken:
        """
        Fetch a fresh token, which the session uses from now on. Older tokens stay valid.

        Raises:
            NotSentError: Pico was not reached.
            RateLimitError: For 60 seconds, Pico gave its tokens to other processes of the API key.
            BadRequestError: Pico does not know the username or the API key.
            UnexpectedResponseError: The reply contains no token.

        Limit: 1 request per second per API key.
        Source: API reference v0.4, "Retrieve JWT Token".
        """
        return await self._engine.fetch_token()
