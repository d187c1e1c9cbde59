"""A callback URL is accepted only with a valid signature, for one message, on one path, until it expires."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st

from pico_async import CallbackSigner, ConfigurationError, InvalidMessageError, PicoSession
from pico_async.receipts.callbacks import CallbackFault, SignedCallback
from pico_async.receipts.handler import ReceiptHandler

NEW, OLD = "new-secret-of-32-characters-long", "old-secret-of-32-characters-long"
URL = "https://shop.example/pico/receipts"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def verified(signer: CallbackSigner, url: str) -> SignedCallback | CallbackFault:
    parts = urlsplit(url)
    return signer.verify(parts.path, parts.query)


@given(st.text(st.characters(), min_size=1, max_size=60))
def test_a_url_verifies_for_its_own_message_alone(key: str) -> None:
    """
    Verifying a signed URL returns its key unchanged, whatever the key contains; two URLs of one key have different IDs.
    """
    signer = CallbackSigner([NEW])

    first, second = (verified(signer, signer.sign(URL, key)) for _ in range(2))

    assert isinstance(first, SignedCallback)
    assert isinstance(second, SignedCallback)
    assert first.key == second.key == key
    assert first.id != second.id


def test_a_message_without_a_key_has_a_url_too() -> None:
    """A URL that was signed without a key passes verification; the key of the result is None."""
    signer = CallbackSigner([NEW])

    callback = verified(signer, signer.sign(URL))

    assert isinstance(callback, SignedCallback)
    assert callback.key is None


def test_a_url_expires_after_72_hours() -> None:
    """A signed URL is valid for 72 hours to the second, also when Pico appends its own query parameters."""
    clock = Clock()
    signer = CallbackSigner([NEW], clock=clock)
    url = signer.sign(URL, "order-17")

    clock.now += 72 * 3600 - 1
    assert isinstance(verified(signer, f"{url}&status=DELIVRD&pic=o"), SignedCallback)
    clock.now += 1
    assert verified(signer, url) is CallbackFault.EXPIRED


def test_two_secrets_are_live_while_they_are_rotated() -> None:
    """The first secret signs and every secret verifies; a URL signed with a removed secret is refused as forged."""
    before, during, after = CallbackSigner([OLD]), CallbackSigner([NEW, OLD]), CallbackSigner([NEW])

    assert isinstance(verified(during, before.sign(URL, "a")), SignedCallback)
    assert isinstance(verified(after, during.sign(URL, "a")), SignedCallback)
    assert verified(after, before.sign(URL, "a")) is CallbackFault.FORGED


def test_every_single_change_is_noticed() -> None:
    """
    A URL is refused when one character of the signed value changes, when the value is cut short, or when the path
    differs.
    """
    signer = CallbackSigner([NEW])
    path, query = "/pico/receipts", urlsplit(signer.sign(URL, "order-17")).query
    name = len("pico=")

    for place in range(name, len(query)):
        for other in "A.z_-0":
            if query[place] != other:
                damaged = f"{query[:place]}{other}{query[place + 1 :]}"
                assert signer.verify(path, damaged) is CallbackFault.FORGED, damaged
        assert isinstance(signer.verify(path, query[:place]), CallbackFault)
    assert signer.verify("/pico/receipts/", query) is CallbackFault.FORGED
    assert signer.verify("/receipts", query) is CallbackFault.FORGED
    assert signer.verify(path, f"{query}&{query}") is CallbackFault.FORGED
    assert signer.verify(path, "status=DELIVRD") is CallbackFault.UNSIGNED
    assert signer.verify(path, query + "&x=" + "y" * 9000) is CallbackFault.FORGED


@given(st.text(max_size=300), st.text(max_size=300))
def test_nothing_that_arrives_raises(path: str, query: str) -> None:
    """`verify` returns a `CallbackFault` and raises nothing, whatever the path and the query contain."""
    assert isinstance(CallbackSigner([NEW]).verify(path, f"pico={query}"), CallbackFault)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example/r?tenant=7",
        "https://shop.example/r#top",
        "https://shop.example/caf%C3%A9",
        "https://shop.example/café",
        "https://shop.example//receipts",
        "https://shop.example/pico//receipts",
        "https://shop.example/./receipts",
        "https://shop.example/pico/../receipts",
        "https://shop.example/receipts/..",
        "/receipts",
        "http://[::1/receipts",
    ],
)
def test_an_address_that_may_be_written_otherwise_is_not_signed(url: str) -> None:
    """
    A URL that a proxy or a framework may rewrite is not signed, because its receipts would be refused. A URL that is
    relative, malformed or has a query is not signed either.
    """
    with pytest.raises(ConfigurationError, match="callback that is to be signed"):
        CallbackSigner([NEW]).sign(url)


def test_a_key_too_long_for_a_url_is_refused_before_anything_is_sent() -> None:
    """
    A key that is too long is refused when the URL is signed; the error names its length and does not repeat the key.
    """
    with pytest.raises(InvalidMessageError, match="takes 257 bytes") as raised:
        CallbackSigner([NEW]).sign(URL, "k" * 257)

    assert "kkk" not in str(raised.value)


@pytest.mark.parametrize("secrets", [[], "a-bare-string-of-secrets", ["short"], [NEW, ""], [7], None, 5])
def test_bad_secrets_are_refused_and_not_shown(secrets: object) -> None:
    """
    Invalid secrets raise an error that does not show them. A bare string is invalid: each character would be a secret.
    """
    with pytest.raises(ConfigurationError, match="secret_keys") as raised:
        CallbackSigner(secrets)  # type: ignore[arg-type]

    assert "bare" not in str(raised.value)
    assert "short" not in re.sub("too short", "", str(raised.value))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CallbackSigner([NEW, "too-short"]),
        lambda: CallbackSigner([NEW], valid_s=0),
        lambda: CallbackSigner(NEW),
        lambda: PicoSession(username="u", api_key="k"),
        lambda: ReceiptHandler(),
    ],
    ids=["one is short", "another argument", "a bare string", "of the session", "of the handler"],
)
def test_an_error_report_that_prints_locals_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]
) -> None:
    """When the settings are refused, a traceback that prints local variables shows no secret, not even a valid one."""
    monkeypatch.setenv("PICO_CALLBACK_SECRETS", f"{NEW},too-short")

    with pytest.raises(ConfigurationError) as raised:
        make()

    report = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    frames = [str(frame.locals) for frame in report.stack if "pico_async" in frame.filename.split("/")]
    assert frames
    assert report.__context__ is None
    assert not [frame for frame in frames if NEW in frame or "too-short" in frame]


@pytest.mark.parametrize("valid_s", [0, -1, float("nan"), True, "72", 1e12])
def test_a_url_is_valid_for_a_time_that_makes_sense(valid_s: object) -> None:
    """`valid_s` must be a number of seconds within its limits; any other value raises a `ConfigurationError`."""
    with pytest.raises(ConfigurationError, match="valid_s"):
        CallbackSigner([NEW], valid_s=valid_s)  # type: ignore[arg-type]


def test_no_repr_shows_a_secret_or_a_number() -> None:
    """The repr of a signer shows no secret, and the repr of a verified callback shows no whole number."""
    signer = CallbackSigner([NEW, OLD])
    callback = verified(signer, signer.sign(URL, "8612345678901"))

    assert "secret-of" not in repr(signer)
    assert "8612345678901" not in repr(callback)
    assert "86…01" in repr(callback)
