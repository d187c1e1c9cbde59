"""Send one message of any kind. All methods that send use this."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from pico_async._engine.call import Engine
from pico_async._engine.permission import Allow, Permission
from pico_async._engine.progress import CallProgress
from pico_async._engine.wire import decode, send_request
from pico_async.coordination.protocols import Priority
from pico_async.errors import InvalidMessageError
from pico_async.messages import Message, deadline
from pico_async.models import Accepted

read_accepted = partial(decode, model=Accepted)


def deliver(
    engine: Engine,
    message: Message,
    *,
    priority: Priority,
    progress: CallProgress | None = None,
    opt_outs: Allow | None = None,
) -> Awaitable[Accepted]:
    """
    Return an awaitable that hands one message to Pico.

    Args:
        opt_outs: Called with the number, after the session's own. It raises if the message must not be sent.

    Raises:
        InvalidMessageError: This is not a message, it has no sender, or *priority* is wrong. Nothing was sent.
    """
    if not isinstance(priority, Priority):
        # A wrong value would be compared with others in a queue, and break its order.
        raise InvalidMessageError("`priority` must be a Priority, as Priority.INTERACTIVE or Priority.BULK.")
    request = send_request(message, engine.account)
    if message.promotional and (engine.opt_outs is not None or opt_outs is not None):
        progress = progress or CallProgress()
        progress.permission = Permission(message.to, engine.opt_outs, opt_outs)
    return engine.call(
        request,
        read_accepted,
        priority=priority,
        deadline=None if message.expires_in is None else deadline(message),
        progress=progress,
    )
