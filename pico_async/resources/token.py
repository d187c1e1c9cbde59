"""The token that authenticates every other request."""

from __future__ import annotations

from collections.abc import Callable

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.models import UserToken


@boundary
class TokenResource:
    """The token: `pico.token`. Calls fetch and renew it by themselves."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def ensure(self) -> None:
        """
        Make sure that there is a token to send with: the one that is shared, or a fresh one where there is none.

        It says nothing of whether Pico still takes the shared one; a call that finds out fetches another.

        Raises:
            NotSentError: Pico was not reached, or the Redis over which the token is shared.
            RateLimitError: For 60 seconds other processes of the API key got the tokens that Pico gave.
            BadRequestError: Pico does not know the username or the API key.
            UnexpectedResponseError: The reply holds no token.
        """
        await self._engine().ensure_token()

    async def get(self) -> UserToken:
        """
        Fetch a fresh token; the session uses it from now on. A new token does not end the older ones.

        Raises:
            NotSentError: Pico was not reached.
            RateLimitError: For 60 seconds other processes of the API key got the tokens that Pico gave.
            BadRequestError: Pico does not know the username or the API key.
            UnexpectedResponseError: The reply holds no token.

        Limit: 1 request per second per API key.
        Source: API reference v0.4, "Retrieve JWT Token".
        """
        return await self._engine().fetch_token()
