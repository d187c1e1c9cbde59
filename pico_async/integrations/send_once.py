"""Send a message at most once, however often its queue delivers it."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.report import SendResult
from pico_async.bulk.sender import send_all
from pico_async.coordination.protocols import Priority
from pico_async.errors import (
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    JournalError,
    MessageExpiredError,
    Outcome,
    PicoError,
    RateLimitError,
    Reason,
    SuppressedError,
)
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.session import PicoSession

# Another delivery may take the message between the claim and the intent. The next try finds its outcome in the ledger.
TRIES = 3


class TakenError(InDoubtError):
    """Another delivery took the message after its claim. Claim it again."""


@boundary
async def send_once(
    pico: PicoSession, message: Message, *, ledger: Journal, priority: Priority = Priority.INTERACTIVE
) -> SendResult:
    """
    Send a message at most once, even if its queue delivers it more than once.

    The ledger has the message's `key` as "sending" before the message is sent. The outcome of a later delivery:

        SKIPPED    Pico has the message.
        IN_DOUBT   An earlier delivery was interrupted, or is still running.
        NOT_SENT   The number has opted out meanwhile (`SuppressedError`), or this delivery did not reach Pico.

    A message that was not sent, or was refused, is sent again. The session's `suppression` is asked at each delivery.
    No outcome raises: check `result.ok`, or raise `result.error`. A queue should deliver a message again if `may_retry`
    returns True, and must not do so by itself if the message is in doubt.

    With taskiq, whose workers have one loop: make session and ledger when the worker starts, and keep them in its
    state. Its broker needs a `SmartRetryMiddleware`, or nothing is tried again:

        @broker.task(retry_on_error=True)
        async def send_sms(to: str, text: str, key: str, context: Annotated[Context, TaskiqDepends()]) -> str:
            state = context.state
            result = await send_once(state.pico, SmsMessage(to=to, text=text, key=key), ledger=state.ledger)
            if may_retry(result.error):
                raise result.error
            return result.outcome

    With Celery, whose tasks have no loop: one loop for each worker process, because a session belongs to its loop.
    Without `acks_late=True`, the messages of a killed worker are lost. With it, they are delivered again, and in doubt.

        runner = asyncio.Runner()   # made in `worker_process_init`, with session and ledger entered in it

        @app.task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=20)
        def send_sms(self, to, text, key):
            result = runner.run(send_once(pico, SmsMessage(to=to, text=text, key=key), ledger=ledger))
            if may_retry(result.error):
                raise self.retry(countdown=30)
            return result.outcome

    Both write a task's arguments, and so the number and the text, to their logs and result stores. To avoid that, pass
    a reference to your own table.

    Args:
        message: A message with a `key`: the same in each delivery, and different for each message.
        ledger: A ledger that all workers share: `PostgresLedger`. A `SqliteJournal` serves one delivery at a time.
        priority: The message's priority among those that wait for a slot.

    Raises:
        InvalidMessageError: The message has no key, or is not a message.
        ConfigurationError: The session is closed, or *ledger* is not a `Journal`.
    """
    if not isinstance(message, SmsMessage | MmsMessage | VoiceMessage):
        raise InvalidMessageError(
            f"Pass an SmsMessage, MmsMessage or VoiceMessage to send_once, not {type(message).__name__}.",
            reason=Reason.TYPE,
        )
    required_key(message)
    if not isinstance(ledger, Journal):
        raise ConfigurationError(f"`ledger` must be a Journal, as PostgresLedger, not {type(ledger).__name__}.")
    if isinstance(ledger, SqliteJournal):
        # For the journal, each delivery is a bulk send of its own.
        ledger = SqliteJournal(ledger.path, many_blasts=True)
    results: list[SendResult] = []
    for _ in range(TRIES):
        try:
            # `outage_s=0`: the queue delivers a message again that cannot be sent now.
            stream = pico._stream(
                [message],
                concurrency=1,
                journal=ledger,
                suppression=None,
                stop_after=None,
                outage_s=0,
                priority=priority,
                is_blast=False,
            )
            await send_all(stream, results.append)
        except JournalError as error:
            # The run could not begin. Later errors of the ledger are in the message's result.
            return SendResult(index=0, message=message, outcome=error.outcome, error=error)
        if not isinstance(results[-1].error, TakenError):
            break
    return results[-1]


def may_retry(error: BaseException | None) -> bool:
    """Return whether another delivery may send the message of this `result.error`: it was not sent, and can be."""
    # Wrong credentials of a worker are not the message's fault: a wrong deployment must not fail the whole queue.
    if isinstance(error, AuthenticationError | RateLimitError):
        return True
    if isinstance(error, MessageExpiredError | InvalidMessageError | SuppressedError) or not isinstance(
        error, PicoError
    ):
        return False
    return error.outcome is Outcome.NOT_SENT


def required_key(message: Message) -> str:
    """
    Return the message's key.

    Raises:
        InvalidMessageError: The message has none.
    """
    if message.key is None:
        raise InvalidMessageError(
            "`key` is missing: a queue may deliver a message twice, and only its key identifies it. Pass a key of your "
            "own, as the order number. It must be the same in each delivery.",
            argument="key",
            reason=Reason.MISSING,
        )
    return message.key
