"""Callback URLs that prove where they come from: v0.4 documents no signature for a delivery receipt."""

from __future__ import annotations

import binascii
import hmac
import re
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlsplit

from attrs import field, frozen

from pico_async._boundary import boundary
from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.numbers import masked_repr

PARAMETER = "pico"
"""The one parameter in the query of a signed URL."""
LONGEST_QUERY = 8192

_SHORTEST_SECRET = 16
_LONGEST_KEY = 256
_NONCE_BYTES = 12
_LONGEST_VALID_S = 366 * 24 * 3600
# Compiled by their first use, and not with the import.
_TOKEN = r"([A-Za-z0-9_-]{0,342})\.([0-9]{1,12})\.([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{43})"  # noqa: S105  its form
# What a proxy or a framework may write in another way, and so break the signature, is refused beforehand.
_PATH = r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*"
_LEFT_OUT = r"//|/\.{1,2}(/|$)"


class CallbackFault(StrEnum):
    """Why a callback URL was not taken."""

    UNSIGNED = "unsigned"
    """It carries no signature."""
    FORGED = "forged"
    """Its signature is not ours, or not for this path, or it was damaged."""
    EXPIRED = "expired"
    """It was ours, and its time is over."""


@boundary
@frozen(kw_only=True)
class SignedCallback:
    """
    What a callback URL of ours says of its message.

    Attributes:
        id: Names this one URL: each message gets its own.
        key: The message's `key`; None where it had none.
        expires_at: Unix time from which the URL is no longer taken.
    """

    id: str
    key: str | None = field(repr=masked_repr)
    expires_at: int


@boundary
class CallbackSigner:
    """
    Make callback URLs that only Pico can have got, and know them again when a delivery receipt comes.

    Pico documents neither the method, the body nor a signature of its delivery receipts. So the URL itself is the
    proof: it holds the message's key, an expiry, and an HMAC-SHA256 over both and the path. Whoever learns a URL, from
    an access log perhaps, can use it for that one message until it expires; serve it over https.

        signer = CallbackSigner([os.environ["RECEIPT_SECRET"]])
        PicoSession(callback="https://shop.example/receipts", callback_signer=signer)

    The key stands in the URL in base64: it can be read there, so let it be a name that may be known, and no number.

    Args:
        secret_keys: The secrets, of 16 characters or more each, as `secrets.token_urlsafe(32)` makes them. The first
            one signs, all are taken. To rotate, put the new one in front, and drop the old one 72 hours later.
        valid_s: Seconds for which a URL is taken.
        clock: Gives the Unix time.

    Raises:
        ConfigurationError: A secret is missing or too short; none is repeated.
    """

    def __init__(
        self,
        secret_keys: Iterable[str | bytes],
        *,
        valid_s: float = 72 * 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # For the repr that an error report shows.
        self._secrets: tuple[bytes, ...] = ()
        self._valid_s = 0.0
        if isinstance(valid_s, bool) or not isinstance(valid_s, int | float) or not 1 <= valid_s <= _LONGEST_VALID_S:
            del secret_keys  # an error report that prints locals would show them, here and below
            raise ConfigurationError("`valid_s` must be a number of seconds, from 1 to those of a year.")
        self._valid_s = valid_s
        listed = isinstance(secret_keys, Iterable) and not isinstance(secret_keys, str | bytes)
        self._secrets = tuple(map(_secret, secret_keys)) if listed else ()
        del secret_keys
        if not listed:
            raise ConfigurationError("`secret_keys` must be a list of secrets, the newest first, as [new, old].")
        if not self._secrets:
            raise ConfigurationError("`secret_keys` is empty: pass one, as `secrets.token_urlsafe(32)` makes it.")
        if not all(self._secrets):
            raise ConfigurationError(
                f"Each of `secret_keys` must have {_SHORTEST_SECRET} characters or more: make one with "
                "`secrets.token_urlsafe(32)`, and keep it where the API key is."
            )
        self._clock = clock

    def __repr__(self) -> str:
        return f"<CallbackSigner, secrets: {len(self._secrets)}, valid for {self._valid_s / 3600:g} hours>"

    def sign(self, url: str, key: str | None = None) -> str:
        """
        Give the URL to which one message's receipts are to come.

        Args:
            url: Your endpoint's address, without a query.
            key: The message's `key`.

        Raises:
            ConfigurationError: The address has a query or a fragment, a path that may be written otherwise, or is none.
            InvalidMessageError: The key is too long for a URL.
        """
        path = signable_path(url)
        signed = f"{_packed(key)}.{int(self._clock() + self._valid_s)}.{_base64(secrets.token_bytes(_NONCE_BYTES))}"
        return f"{url}?{PARAMETER}={signed}.{_mac(self._secrets[0], path, signed)}"

    def verify(self, path: str, query: str) -> SignedCallback | CallbackFault:
        """
        Say of which message a callback URL is, or why it is not taken. It never raises.

        That a URL is ours says not that it is used for the first time: see `ReceiptHandler`.

        Args:
            path: As the server got it, prefixes included, as "/receipts".
            query: As the server got it, without the "?". Parameters that Pico adds are no concern of the signature.
        """
        if len(query) > LONGEST_QUERY:
            return CallbackFault.FORGED
        given = [pair for pair in query.split("&") if pair.startswith(f"{PARAMETER}=")]
        if not given:
            return CallbackFault.UNSIGNED
        token = re.fullmatch(_TOKEN, given[0].removeprefix(f"{PARAMETER}="))
        if len(given) > 1 or token is None:
            return CallbackFault.FORGED
        packed, expires_at, nonce, mac = token.groups()
        signed = f"{packed}.{expires_at}.{nonce}"
        # Each is compared, so that the time taken does not tell which one signed.
        genuine = [hmac.compare_digest(mac, _mac(secret, path, signed)) for secret in self._secrets]
        if not any(genuine):
            return CallbackFault.FORGED
        if self._clock() >= int(expires_at):
            return CallbackFault.EXPIRED
        return SignedCallback(id=nonce, key=_unpacked(packed), expires_at=int(expires_at))


@lru_cache(maxsize=64)
def checked_signer(signer: object, secrets: str | None) -> CallbackSigner | None:
    """Make sure that it is one, where there is one; else make it of the environment's secrets, where there are any."""
    if signer is None and not secrets:
        return None
    if signer is not None:
        if not isinstance(signer, CallbackSigner):
            raise ConfigurationError("The signer of callbacks must be a CallbackSigner, as CallbackSigner([secret]).")
        return signer
    try:
        return CallbackSigner([secret.strip() for secret in (secrets or "").split(",")])
    except ConfigurationError as error:
        fault = str(error)
    # Raised outside the handler: an error report that prints locals would show the secrets of its frames.
    del secrets
    raise ConfigurationError(f"PICO_CALLBACK_SECRETS is wrong: {fault}")


def signable_path(url: str) -> str:
    """
    Give the path of an address that can be signed.

    Raises:
        ConfigurationError: It is no web address, has a query or a fragment, or a path that may be written otherwise.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError("A callback that is to be signed is a web address, as 'https://example.com/receipts'.")
    if "?" in url or "#" in url:
        raise ConfigurationError(
            "A callback that is to be signed has no query and no fragment: put into its path what tells it apart."
        )
    if not re.fullmatch(_PATH, parts.path) or re.search(_LEFT_OUT, parts.path):
        raise ConfigurationError(
            "A callback that is to be signed needs a path of plain characters, without %, '//', '/./' and '/../', as "
            "'https://example.com/receipts': another way to write it would not match its signature."
        )
    return parts.path


def _secret(key: object) -> bytes:
    """Give it as bytes; none where it is no secret."""
    value = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return value if isinstance(value, bytes) and len(value) >= _SHORTEST_SECRET else b""


def _mac(secret: bytes, path: str, signed: str) -> str:
    # What is signed holds no line break, so that no path can pass for another one with the rest of it in the key.
    told = f"pico callback 1\n{path}\n{signed}".encode("utf-8", "surrogatepass")
    return _base64(hmac.digest(secret, told, "sha256"))


def _packed(key: str | None) -> str:
    if key is None:
        return ""
    raw = key.encode("utf-8", "surrogatepass")
    if len(raw) > _LONGEST_KEY:
        raise InvalidMessageError(
            f"`key` takes {len(raw):,} bytes, which is too long for a signed callback: {_LONGEST_KEY} at the most. "
            "Nothing was sent."
        )
    return _base64(raw)


def _unpacked(packed: str) -> str | None:
    if not packed:
        return None
    try:
        return urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeDecodeError):  # signed by somebody who has the secret, and not by `sign`
        return None


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
