"""`PicoSandbox` lets a test send messages, read them, inject faults and advance the clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from pico_async import (
    BadRequestError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    LocalCoordinator,
    NotSentError,
    PicoSession,
    RateLimitError,
    Rates,
)
from pico_async.testing import PicoSandbox

TO = "8612345678901"
OTHER = "8612345678902"


@pytest.fixture
def sandbox() -> Iterator[PicoSandbox]:
    with PicoSandbox() as sandbox:
        yield sandbox


async def test_what_was_sent_is_found_by_a_number_as_a_user_writes_it(sandbox: PicoSandbox) -> None:
    """`sent_to` returns the messages of any kind to one number, oldest first, however the number is spelled."""
    session = sandbox.session()
    await session.sms.send(TO, "One")
    await session.voice.send(TO, "Two")
    await session.mms.send(TO, "https://example.com/three.png")
    await session.sms.send(OTHER, "Four")

    assert [message.kind for message in sandbox.sent_to("+86 123-4567-8901")] == ["sms", "voice", "mms"]
    assert [message.text for message in sandbox.messages] == ["One", "Two", None, "Four"]
    with pytest.raises(InvalidMessageError):
        sandbox.sent_to("reception")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Your code is 4711", "4711"),
        ("4711 is your code", "4711"),
        ("Order 12345678: code 4711", "4711"),
        ("Your code is 4711. Questions? Call 886212345678", "4711"),
        ("Call 8612345678901 unless you asked for 00471108.", "00471108"),
        ("123 is too short, 123456789 too long, 47110 neither", "47110"),
        ("驗證碼471108，5分鐘內有效", "471108"),
        ("G-471108", "471108"),
    ],
)
async def test_the_code_is_the_last_run_of_four_to_eight_digits(sandbox: PicoSandbox, text: str, code: str) -> None:
    """
    The code in a text is the last run of four to eight digits; a longer run is another number and contains no code.
    """
    session = sandbox.session()
    await session.sms.send(TO, "An older one: 9999")
    await session.sms.send(TO, text)

    assert sandbox.otp_for("+86 1234 5678 901") == code


async def test_a_pattern_says_what_the_code_looks_like(sandbox: PicoSandbox) -> None:
    """With a pattern, the code is the pattern's first group if it has one, otherwise the whole match."""
    await sandbox.session().sms.send(TO, "Your code is K3-77A. It is good until 2031.")

    assert sandbox.otp_for(TO) == "2031"
    assert sandbox.otp_for(TO, pattern=r"code is ([A-Z0-9-]+)") == "K3-77A"
    assert sandbox.otp_for(TO, pattern=r"[A-Z0-9]+-[A-Z0-9]+") == "K3-77A"


async def test_a_voice_message_has_a_code_too(sandbox: PicoSandbox) -> None:
    """`otp_for` reads the newest message to the number, of any kind."""
    session = sandbox.session()
    await session.sms.send(TO, "Your code is 4711")
    await session.voice.send(TO, "Your code is 4712")

    assert sandbox.otp_for(TO) == "4712"


async def test_where_there_is_no_code_the_error_says_what_there_is_and_shows_none_of_it(sandbox: PicoSandbox) -> None:
    """
    When there is no code, the error describes the messages with masked numbers, and with the length of a text only.
    """
    session = sandbox.session()

    with pytest.raises(AssertionError, match=r"^No message was sent to 86…01\. Nothing was sent to others\.$"):
        sandbox.otp_for(TO)

    await session.sms.send(OTHER, "Your code is 4711")
    with pytest.raises(AssertionError, match=r"^No message was sent to 86…01\. Sent to others: 1 86…02\.$"):
        sandbox.otp_for(TO)

    with sandbox.fault("bad-request"), pytest.raises(BadRequestError):
        await session.sms.send(TO, "Your code is 4711")
    with pytest.raises(AssertionError, match=r"^No message was sent to 86…01\. Refused or lost: 1 bad-request\."):
        sandbox.otp_for(TO)

    await session.sms.send(TO, "Good morning")
    with pytest.raises(
        AssertionError, match=r"^The newest message to 86…01, an sms of 12 characters, contains no run"
    ) as no:
        sandbox.otp_for(TO)
    assert "morning" not in str(no.value)

    await session.mms.send(TO, "https://example.com/cat.png")
    with pytest.raises(AssertionError, match="an mms without a text, so it contains no code"):
        sandbox.otp_for(TO)


async def test_a_message_by_template_says_so(sandbox: PicoSandbox) -> None:
    """The error for a message by template names the template, because the request contains only the template's ID."""
    session = sandbox.session()
    campaign = await session.campaigns.create("Codes")
    await session.templates.create_sms(campaign.campaign_id, "Code", "Your code is {{code}}")
    template_id = str((await session.templates.list())[0].id)
    await session.sms.send(TO, template_id=template_id)

    with pytest.raises(AssertionError, match=f"an sms sent by template {template_id}, so it contains no code"):
        sandbox.otp_for(TO)


async def test_a_fault_ends_with_its_block(sandbox: PicoSandbox) -> None:
    """A fault ends with its block, also after an exception; an outer fault continues with its own count."""
    session = sandbox.session(retries=0)
    with sandbox.fault("accept-then-drop", to="+86 123 4567 8902", times=2):
        with pytest.raises(KeyError), sandbox.fault("refused-connection"):
            with pytest.raises(NotSentError):
                await session.sms.send(TO, "One")
            raise KeyError
        with pytest.raises(InDoubtError):
            await session.sms.send(OTHER, "Two")
        await session.sms.send(TO, "Three")
    await session.sms.send(OTHER, "Four")

    assert [message.text for message in sandbox.messages] == ["Two", "Three", "Four"]


def test_a_fault_that_does_not_exist_is_refused_at_once(sandbox: PicoSandbox) -> None:
    """
    An unknown fault or operation raises a `ValueError` at once; otherwise a test could pass because no fault occurred.
    """
    with pytest.raises(ValueError, match="accept-then-vanish"), sandbox.fault("accept-then-vanish"):
        pass
    with pytest.raises(ValueError, match="no such operation"), sandbox.fault("bad-request", "fax.send"):
        pass


async def test_clear_forgets_messages_and_nothing_else(sandbox: PicoSandbox) -> None:
    """`clear` removes the messages and nothing else: the ledger keeps every accepted message."""
    session = sandbox.session()
    await session.sms.send(TO, "Your code is 4711")

    sandbox.clear()
    forgotten = sandbox.sent_to(TO)
    await session.sms.send(TO, "Your code is 4712")

    assert forgotten == []
    assert sandbox.otp_for(TO) == "4712"
    assert len(sandbox.ledger.accepted) == 2
    assert repr(sandbox) == "<PicoSandbox, messages: 1, requests: 3>"


async def test_the_clock_ages_tokens(sandbox: PicoSandbox) -> None:
    """
    When the sandbox's clock advances by 31 minutes, the session fetches another token and the message is sent once.
    """
    session = sandbox.session()
    await session.sms.send(TO, "One")

    sandbox.clock.advance(31 * 60)
    await session.sms.send(TO, "Two")

    assert sandbox.ledger.token_requests == 2
    assert [message.text for message in sandbox.messages] == ["One", "Two"]
    with pytest.raises(ValueError, match="cannot go back"):
        sandbox.clock.advance(-1)
    with pytest.raises(TypeError, match="a clock of its own"):
        PicoSandbox(clock=lambda: 0.0)


async def test_the_clock_frees_a_rate() -> None:
    """With Pico's rate rule in force, a request is accepted again when the sandbox's clock advances by a second."""
    with PicoSandbox(rate_rule="sliding-log", rates={"sms": 2}) as sandbox:
        session = sandbox.session(retries=0)
        await session.sms.send(TO, "One")
        await session.sms.send(TO, "Two")
        with pytest.raises(RateLimitError):
            await session.sms.send(TO, "Three")
        sandbox.clock.advance(1)
        # The session that was refused pauses; this new session was not refused.
        await sandbox.session(retries=0, coordinator=LocalCoordinator()).sms.send(TO, "Four")

    assert [message.text for message in sandbox.messages] == ["One", "Two", "Four"]


async def test_a_developers_own_account_has_no_say(sandbox: PicoSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of a sandbox ignores the account in the environment, and the environment stays unchanged."""
    theirs = {
        "PICO_USERNAME": "developer",
        "PICO_API_KEY": "real",
        "PICO_SENDER": "886900000000",
        "PICO_CALLBACK": "https://example.com/receipts",
        "PICO_BASE_URL": "https://rest.picotw.com",
        "PICO_REDIS_URL": "redis://127.0.0.1:1",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)

    session = sandbox.session()
    await session.sms.send(TO, "Hello")

    (message,) = sandbox.messages
    assert (message.sender, message.callback) == ("8612345678888", None)
    assert repr(session) == "<PicoSession 'user333' at https://pico-sandbox.invalid, open>"
    assert all(os.environ[name] == value for name, value in theirs.items())


async def test_two_sandboxes_in_one_loop_share_nothing(sandbox: PicoSandbox) -> None:
    """Two sandboxes in one event loop share nothing: each session fetches its own token."""
    with PicoSandbox() as other:
        await sandbox.session().sms.send(TO, "One")
        await other.session().sms.send(TO, "Two")

        assert [len(each.ledger.arrivals) for each in (sandbox, other)] == [2, 2]


@pytest.mark.virtual_time
async def test_a_session_takes_settings(sandbox: PicoSandbox) -> None:
    """The session of a sandbox accepts the settings of `PicoSession`, its rates included."""
    hasty = sandbox.session(timeout=0.05, sender="Shop")
    paced = PicoSandbox().session(rates=Rates(sms=500))

    await paced.sms.send(TO, "Hello")
    with sandbox.fault("accept-then-hang"), pytest.raises(InDoubtError, match=r"no reply within 0\.05 s"):
        await hasty.sms.send(TO, "Hello")

    assert sandbox.messages[0].sender == "Shop"
    assert "text messages a second" in repr(paced)
    await paced.aclose()


class TestClosing:
    """Closing a sandbox closes its sessions, whatever their event loop does by then."""

    def test_a_loop_that_has_ended(self) -> None:
        """A session whose event loop has ended is closed with its sandbox; a second `close` is no error."""
        sandbox = PicoSandbox()
        session = sandbox.session()
        asyncio.run(session.sms.send(TO, "Hello"))

        sandbox.close()
        sandbox.close()

        with pytest.raises(ConfigurationError, match="closed"):
            asyncio.run(session.sms.send(TO, "Hello"))

    def test_a_session_that_was_not_used(self) -> None:
        """A session that was never used has no event loop and is closed with its sandbox."""
        sandbox = PicoSandbox()
        session = sandbox.session()

        sandbox.close()

        assert repr(session) == "<PicoSession 'user333' at https://pico-sandbox.invalid, closed>"

    def test_a_loop_that_goes_on_between_tests(self) -> None:
        """
        A request that a test left open is ended with the sandbox, so the next test in the same loop does not meet it.
        """
        with asyncio.Runner() as runner:
            sandbox = PicoSandbox()
            session = sandbox.session()
            left = runner.run(_leave_one_on_the_wire(sandbox, session))

            sandbox.close()

            assert left.done()
            assert isinstance(left.exception(), InDoubtError)
            assert runner.run(_others()) == set()

    def test_a_loop_of_another_thread(self) -> None:
        """A session in another thread's event loop, as of a portal or a test client, is closed with its sandbox."""
        with start_blocking_portal() as portal:
            sandbox = PicoSandbox()
            session = sandbox.session()
            left = portal.call(_leave_one_on_the_wire, sandbox, session)

            sandbox.close()

            assert left.done()
            assert isinstance(left.exception(), InDoubtError)

    async def test_the_loop_that_is_running(self) -> None:
        """In the running event loop, `close` cannot wait for the session, but the session refuses every later call."""
        sandbox = PicoSandbox()
        session = sandbox.session()
        await session.sms.send(TO, "Hello")

        sandbox.close()

        with pytest.raises(ConfigurationError, match="closed"):
            await session.sms.send(TO, "Hello")


async def _leave_one_on_the_wire(sandbox: PicoSandbox, session: PicoSession) -> asyncio.Task[object]:
    with sandbox.fault("hang-before-accept", times=1):
        left: asyncio.Task[object] = asyncio.create_task(session.sms.send(TO, "Hello"))
        while not sandbox.ledger.arrivals or sandbox.ledger.arrivals[-1].operation != "sms.send":
            await asyncio.sleep(0)
    return left


async def _others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
