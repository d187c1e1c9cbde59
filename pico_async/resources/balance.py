"""The account's credit."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async._engine import endpoints, wire
from pico_async._engine.call import Engine
from pico_async._engine.endpoints import Request
from pico_async.models import Balance


@boundary
class BalanceResource:
    """The account's credit: `pico.balance`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self) -> Balance:
        """
        Return the remaining credit as an exact decimal.

        Raises:
            NotSentError: Pico was not reached.
            RejectedError: Pico refused the request; RateLimitError if another process requested the balance within the
                same second.
            UnexpectedResponseError: The reply contains no decimal number.

        Limit: 1 request per second per API key.
        Source: API reference v0.4, "Get Account Balance".
        """
        path = endpoints.GET_BALANCE.path_with(username=self._engine.account.username)
        return await self._engine.call(
            Request(endpoints.GET_BALANCE, path), lambda payload: wire.decode(payload, Balance)
        )
