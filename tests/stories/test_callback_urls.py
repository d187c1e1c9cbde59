"""These tests check the URLs that a session sends to Pico: callbacks are signed, and private hosts are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from pico_async import (
    BadRequestError,
    CallbackSigner,
    ConfigurationError,
    InvalidMessageError,
    MmsMessage,
    PicoSession,
    Rates,
    SmsMessage,
)
from pico_async.receipts.callbacks import SignedCallback
from pico_async.sandbox import Fault, FaultRule, Sandbox

NUMBER, TEXT = "8612345678901", "Your code is 1234"
SECRETS = ["a-secret-of-32-characters-or-so-", "an-older-secret-of-32-characters"]
PUBLIC, LOOPBACK, PRIVATE = "https://shop.example/receipts", "http://127.0.0.1:80/r", "https://10.0.0.7/r"


def session(sandbox: Sandbox, **more: Any) -> PicoSession:
    settings = {"sender": "PICO", "transport": sandbox.transport(), "rates": Rates(sms=None), **more}
    return PicoSession(username=sandbox.username, api_key=sandbox.api_key, **settings)


def signed_for(url: str | None, signer: CallbackSigner) -> str | None:
    assert url is not None
    parts = urlsplit(url)
    callback = signer.verify(parts.path, parts.query)
    assert isinstance(callback, SignedCallback)
    return callback.key


async def test_each_message_has_a_url_of_its_own() -> None:
    """
    With a signer, each message gets a signed callback URL of its own, in single and bulk sends.

    A message that sets its own callback keeps that URL.
    """
    sandbox, signer = Sandbox(rate_rule=None), CallbackSigner(SECRETS)
    async with session(sandbox, callback=PUBLIC, callback_signer=signer) as pico:
        await pico.sms.send(NUMBER, TEXT, key="single")
        await pico.send_bulk([SmsMessage(to=NUMBER, text=TEXT, key=f"bulk-{number}") for number in range(3)])
        await pico.sms.send(NUMBER, TEXT, callback="https://elsewhere.example/r?a=1")

    *ours, elsewhere = [message.callback for message in sandbox.ledger.accepted]
    assert sorted(signed_for(url, signer) or "" for url in ours) == ["bulk-0", "bulk-1", "bulk-2", "single"]
    assert len(set(ours)) == 4
    assert elsewhere == "https://elsewhere.example/r?a=1"


async def test_a_retry_keeps_its_url() -> None:
    """A message that is retried after its token was refused has a callback URL that is signed for its key."""
    sandbox, signer = Sandbox(rate_rule=None, faults=[FaultRule(Fault.STALE_TOKEN, times=1)]), CallbackSigner(SECRETS)
    async with session(sandbox, callback=PUBLIC, callback_signer=signer, rates=Rates(sms=None, token=None)) as pico:
        await pico.sms.send(NUMBER, TEXT, key="order-17")

    (message,) = sandbox.ledger.accepted
    assert signed_for(message.callback, signer) == "order-17"


async def test_the_secrets_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without a signer, a session signs callbacks with the secrets of `PICO_CALLBACK_SECRETS`, so that commands sign, too.

    The secrets are separated by commas, and the first of them signs.
    """
    monkeypatch.setenv("PICO_CALLBACK_SECRETS", ", ".join(SECRETS))
    monkeypatch.setenv("PICO_CALLBACK", PUBLIC)
    sandbox = Sandbox(rate_rule=None)
    async with session(sandbox) as pico:
        await pico.sms.send(NUMBER, TEXT, key="order-17")

    assert signed_for(sandbox.ledger.accepted[0].callback, CallbackSigner(SECRETS[:1])) == "order-17"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"callback": PUBLIC, "callback_signer": SECRETS[0]}, "signer of callbacks"),
        ({"callback": f"{PUBLIC}?tenant=7", "callback_signer": CallbackSigner(SECRETS)}, "no query"),
        ({"callback": LOOPBACK}, "only this machine"),
        ({"callback": PRIVATE}, "only this machine"),
        ({"allow_private_urls": "yes"}, "allow_private_urls"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_session_is_made(arguments: dict[str, Any], fault: str) -> None:
    """
    A wrong callback setting raises ConfigurationError when the session is created, not when the first message is sent.
    """
    with pytest.raises(ConfigurationError, match=fault):
        session(Sandbox(), **arguments)


@pytest.mark.parametrize(
    "send",
    [
        lambda pico, url: pico.sms.send(NUMBER, TEXT, callback=url),
        lambda pico, url: pico.mms.send(NUMBER, url),
        lambda pico, url: pico.templates.create_mms("no-such-campaign", "name", "content", media_url=url),
    ],
    ids=["callback", "media_url", "media_url of a template"],
)
@pytest.mark.parametrize(
    ("url", "arguments", "taken"),
    [
        (PUBLIC, {}, True),
        (PRIVATE, {}, False),
        (r"https://10.0.0.7\@shop.example/r", {}, False),
        (LOOPBACK, {}, False),
        (PRIVATE, {"allow_private_urls": True}, True),
        (LOOPBACK, {"allow_private_urls": True}, True),
        (LOOPBACK, {"base_url": "http://127.0.0.1:8321"}, True),
        (PRIVATE, {"base_url": "http://127.0.0.1:8321"}, False),
    ],
)
async def test_pico_is_sent_to_no_private_host(
    send: Callable[[PicoSession, str], Any], url: str, arguments: dict[str, Any], taken: bool
) -> None:
    """
    A URL with a private host is refused before any request, and the error names `allow_private_urls`.

    The URL is accepted if `allow_private_urls` is set, or if both the URL and `base_url` are on loopback.
    """
    sandbox = Sandbox(rate_rule=None)
    refused = suppress(BadRequestError) if taken else pytest.raises(InvalidMessageError, match="allow_private_urls")
    async with session(sandbox, **arguments) as pico:
        with refused:
            await send(pico, url)

    assert len(sandbox.ledger.arrivals) == (2 if taken else 0)


async def test_in_a_bulk_send_a_private_host_fails_its_own_message() -> None:
    """In a bulk send, a message with a private media URL is not sent; the other messages are sent."""
    sandbox = Sandbox(rate_rule=None)
    messages = [MmsMessage(to=NUMBER, media_url=url) for url in (PRIVATE, "https://example.com/a.png")]
    async with session(sandbox) as pico:
        report = await pico.send_bulk(messages)

    assert (report.accepted, report.not_sent) == (1, 1)
    assert "media_url" in str(report.failures[0].error)


async def test_a_key_too_long_to_sign_is_that_messages_result() -> None:
    """
    A key that is too long to sign raises InvalidMessageError, nothing is sent, and the session's next send succeeds.
    """
    sandbox = Sandbox(rate_rule=None)
    async with session(sandbox, callback=PUBLIC, callback_signer=CallbackSigner(SECRETS)) as pico:
        with pytest.raises(InvalidMessageError, match="`key` takes"):
            await pico.sms.send(NUMBER, TEXT, key="k" * 300)
        await asyncio.wait_for(pico.sms.send(NUMBER, TEXT, key="short"), 5)

    assert len(sandbox.ledger.accepted) == 1
