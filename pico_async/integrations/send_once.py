"""The guard for any queue: one message, delivered any number of times, is sent at most once."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.report import SendResult
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
    SuppressedError,
)
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.session import PicoSession

# How often another delivery may be quicker between the look at the ledger and the intent. It then has the message, and
# the ledger tells what became of it.
TRIES = 3


class TakenError(InDoubtError):
    """Another delivery took the message since the ledger was asked: ask it again."""


@boundary
async def send_once(
    pico: PicoSession, message: Message, *, ledger: Journal, priority: Priority = Priority.INTERACTIVE
) -> SendResult:
    """
    Send a message that its queue may deliver more than once, and send it at most once.

    The ledger has the message's `key` as "sending" before it may leave. Whoever is delivered it again is told
    `SKIPPED` where Pico has it, and `IN_DOUBT` where an earlier delivery was interrupted, or is under way. What was
    not sent, or was refused, is sent again. The session's `suppression` is asked at each delivery, so an opt-out holds
    that comes while the message waits in its queue: `NOT_SENT`, with a `SuppressedError`. It does not raise for the
    message's fate: ask `result.ok`, or raise `result.error`. A queue should deliver again what `may_retry` says, and
    what is `IN_DOUBT` never by itself.

    With taskiq, whose workers have one loop (make session and ledger when the worker starts, and keep them in its
    state). Its broker needs a `SmartRetryMiddleware`, or nothing is tried again:

        @broker.task(retry_on_error=True)
        async def send_sms(to: str, text: str, key: str, context: Annotated[Context, TaskiqDepends()]) -> str:
            state = context.state
            result = await send_once(state.pico, SmsMessage(to=to, text=text, key=key), ledger=state.ledger)
            if may_retry(result.error):
                raise result.error
            return result.outcome

    With Celery, whose tasks have no loop: one loop for each worker process, for a session belongs to its loop. Take
    `acks_late=True`, or what a killed worker held is lost; with it, what it held comes again, and is told in doubt.

        runner = asyncio.Runner()   # made in `worker_process_init`, with session and ledger entered in it

        @app.task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=20)
        def send_sms(self, to, text, key):
            result = runner.run(send_once(pico, SmsMessage(to=to, text=text, key=key), ledger=ledger))
            if may_retry(result.error):
                raise self.retry(countdown=30)
            return result.outcome

    Both write a task's arguments, and with them number and text, to their logs and result stores; pass a reference to
    your own table where they must not be there.

    Args:
        message: With a `key`: the same in each delivery, and another for each message.
        ledger: What all workers share, as `PostgresLedger`. A `SqliteJournal` serves one delivery at a time.
        priority: Who goes first where several wait for the pace.

    Raises:
        InvalidMessageError: The message has no key, or is none.
        ConfigurationError: The session is closed, or *ledger* is no `Journal`.
    """
    if not isinstance(message, SmsMessage | MmsMessage | VoiceMessage):
        raise InvalidMessageError(
            f"Pass an SmsMessage, MmsMessage or VoiceMessage to send_once, not {type(message).__name__}."
        )
    required_key(message)
    if not isinstance(ledger, Journal):
        raise ConfigurationError(f"`ledger` must be a Journal, as PostgresLedger, not {type(ledger).__name__}.")
    if isinstance(ledger, SqliteJournal):
        # Each delivery is a blast of its own.
        ledger = SqliteJournal(ledger.path, many_blasts=True)
    results: list[SendResult] = []
    for _ in range(TRIES):
        try:
            # What cannot be sent now is the queue's to deliver again.
            await pico.send_bulk(
                [message],
                concurrency=1,
                journal=ledger,
                priority=priority,
                on_result=results.append,
                outage_s=0,
            )
        except JournalError as error:
            # On entering: nothing was read. After that, what the ledger fails at is the message's result.
            return SendResult(index=0, message=message, outcome=error.outcome, error=error)
        if not isinstance(results[-1].error, TakenError):
            break
    return results[-1]


def may_retry(error: BaseException | None) -> bool:
    """Say whether another delivery may send the message, by its `result.error`: it did not go out, and can."""
    # The worker's credentials are no fault of the message: one wrong deploy must not fail all that is in the queue.
    if isinstance(error, AuthenticationError | RateLimitError):
        return True
    if isinstance(error, MessageExpiredError | InvalidMessageError | SuppressedError) or not isinstance(
        error, PicoError
    ):
        return False
    return error.outcome is Outcome.NOT_SENT


def required_key(message: Message) -> str:
    """
    Give the message's key.

    Raises:
        InvalidMessageError: It has none.
    """
    if message.key is None:
        raise InvalidMessageError(
            "`key` is missing: a queue may deliver a message twice, and only by its key is it known again. Give it "
            "one of yours, as the order's number; it must be the same in each delivery."
        )
    return message.key
