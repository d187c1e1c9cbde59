"""Signed callback URLs. They replace the signature that v0.4 does not document for a delivery receipt."""

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
from pico_async._masking import masked_repr
from pico_async._values import Value
from pico_async.errors import ConfigurationError, InvalidMessageError, Reason

PARAMETER = "pico"
"""The only parameter in the query of a signed URL."""
LONGEST_QUERY = 8192

_SHORTEST_SECRET = 16
_LONGEST_KEY = 256
_NONCE_BYTES = 12
_LONGEST_VALID_S = 366 * 24 * 3600
_TOKEN = re.compile(r"([A-Za-z0-9_-]{0,342})\.([0-9]{1,12})\.([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{43})")
# A proxy or a framework may rewrite other paths, and the signature would then not match.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_REWRITTEN = re.compile(r"//|/\.{1,2}(/|$)")


class CallbackFault(StrEnum):
    """Why a callback URL was refused."""

    UNSIGNED = "unsigned"
    """The URL has no signature."""
    FORGED = "forged"
    """The signature was made with another secret or for another path, or the URL was damaged."""
    EXPIRED = "expired"
    """The signature is valid, and the URL has expired."""


@boundary
@frozen(kw_only=True)
class SignedCallback(Value):
    """
    The signed content of a callback URL.

    Attributes:
        id: A random ID of this URL. Each message gets its own.
        key: The message's `key`; None if it had none.
        expires_at: Unix time from which the URL is refused.
    """

    id: str
    key: str | None = field(repr=masked_repr)
    expires_at: int


@boundary
class CallbackSigner:
    """
    Sign callback URLs, and verify them when a delivery receipt arrives.

    Pico documents neither the method, the body nor a signature of its delivery receipts. So the URL itself is the
    proof: it contains the message's key, an expiry time, and an HMAC-SHA256 over both and the path. A URL that leaks,
    for example from an access log, can be used for its one message until it expires. Serve it over https.

        signer = CallbackSigner([os.environ["RECEIPT_SECRET"]])
        PicoSession(callback="https://shop.example/receipts", callback_signer=signer)

    The URL contains the message's key in base64, where it can be read. The key must not be secret or a phone number.

    Args:
        secret_keys: The secrets, of 16 characters or more each, as `secrets.token_urlsafe(32)` makes them. The first
            one signs, and all of them verify. To rotate, put the new one first, and remove the old one 72 hours later.
        valid_s: Seconds until a URL expires.
        clock: A function that returns the Unix time.

    Raises:
        ConfigurationError: A secret is missing or too short. The error does not contain any.
    """

    def __init__(
        self,
        secret_keys: Iterable[str | bytes],
        *,
        valid_s: float = 72 * 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # An error reporter may show the repr of an object whose `__init__` failed.
        self._secrets: tuple[bytes, ...] = ()
        self._valid_s = 0.0
        if isinstance(valid_s, bool) or not isinstance(valid_s, int | float) or not 1 <= valid_s <= _LONGEST_VALID_S:
            del secret_keys  # an error reporter that shows locals would show them, here and below
            raise ConfigurationError(f"`valid_s` must be a number of seconds, from 1 to {_LONGEST_VALID_S:,} (a year).")
        self._valid_s = valid_s
        listed = isinstance(secret_keys, Iterable) and not isinstance(secret_keys, str | bytes)
        self._secrets = tuple(map(_secret, secret_keys)) if listed else ()
        del secret_keys
        if not listed:
            raise ConfigurationError("`secret_keys` must be a list of secrets, the newest first, as [new, old].")
        if not self._secrets:
            raise ConfigurationError("`secret_keys` is empty. Pass one, as `secrets.token_urlsafe(32)` makes it.")
        if not all(self._secrets):
            raise ConfigurationError(
                f"Each of `secret_keys` must have {_SHORTEST_SECRET} characters or more. Make one with "
                "`secrets.token_urlsafe(32)`, and store it with the API key."
            )
        self._clock = clock

    def __repr__(self) -> str:
        return f"<CallbackSigner, secrets: {len(self._secrets)}, valid for {self._valid_s / 3600:g} hours>"

    def sign(self, url: str, key: str | None = None) -> str:
        """
        Return the signed callback URL for one message.

        Args:
            url: The URL of your endpoint, without a query.
            key: The message's `key`.

        Raises:
            ConfigurationError: `signable_path` refuses the URL.
            InvalidMessageError: The key is too long for a URL.
        """
        path = signable_path(url)
        signed = f"{_encode_key(key)}.{int(self._clock() + self._valid_s)}.{_base64(secrets.token_bytes(_NONCE_BYTES))}"
        return f"{url}?{PARAMETER}={signed}.{_mac(self._secrets[0], path, signed)}"

    def verify(self, path: str, query: str) -> SignedCallback | CallbackFault:
        """
        Return the signed content of a callback URL, or why it is refused. This never raises.

        A valid URL may have been used before. `ReceiptHandler` recognises that.

        Args:
            path: The path as the server received it, including prefixes, such as "/receipts".
            query: The query as the server received it, without the "?". Pico may add parameters to it.
        """
        if len(query) > LONGEST_QUERY:
            return CallbackFault.FORGED
        tokens = [pair for pair in query.split("&") if pair.startswith(f"{PARAMETER}=")]
        if not tokens:
            return CallbackFault.UNSIGNED
        token = _TOKEN.fullmatch(tokens[0].removeprefix(f"{PARAMETER}="))
        if len(tokens) > 1 or token is None:
            return CallbackFault.FORGED
        encoded_key, expires_at, nonce, mac = token.groups()
        signed = f"{encoded_key}.{expires_at}.{nonce}"
        # Compare with every secret, so that the time does not reveal which one signed.
        genuine = [hmac.compare_digest(mac, _mac(secret, path, signed)) for secret in self._secrets]
        if not any(genuine):
            return CallbackFault.FORGED
        if self._clock() >= int(expires_at):
            return CallbackFault.EXPIRED
        return SignedCallback(id=nonce, key=_decode_key(encoded_key), expires_at=int(expires_at))


@lru_cache(maxsize=64)
def checked_signer(signer: object, secrets: str | None) -> CallbackSigner | None:
    """Return the given signer, checked, or else one that is made from the environment's secrets, or None."""
    if signer is None and not secrets:
        return None
    if signer is not None:
        if not isinstance(signer, CallbackSigner):
            raise ConfigurationError("The signer of callbacks must be a CallbackSigner, such as CallbackSigner([key]).")
        return signer
    try:
        return CallbackSigner([secret.strip() for secret in (secrets or "").split(",")])
    except ConfigurationError as error:
        fault = str(error)
    # Raised outside the `except` block: an error reporter that shows locals would show the secrets of its frames.
    del secrets
    raise ConfigurationError(f"PICO_CALLBACK_SECRETS is wrong: {fault}")


def signable_path(url: str) -> str:
    """Return the path of a URL that can be signed: a web address without query, whose path no proxy rewrites."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError(
            "A callback that is to be signed must be a web address, such as 'https://example.com/receipts'."
        )
    if "?" in url or "#" in url:
        raise ConfigurationError(
            "A callback that is to be signed must have no query and no fragment. Put what identifies it into its path."
        )
    if not _PATH.fullmatch(parts.path) or _REWRITTEN.search(parts.path):
        raise ConfigurationError(
            "A callback that is to be signed must have a path of plain characters, such as '…/receipts', "
            "without %, '//', '/./' and '/../'. A proxy may rewrite those, and the signature would not match."
        )
    return parts.path


def _secret(key: object) -> bytes:
    """Return a secret as bytes, or no bytes if it is not one."""
    value = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return value if isinstance(value, bytes) and len(value) >= _SHORTEST_SECRET else b""


def _mac(secret: bytes, path: str, signed: str) -> str:
    # Neither part contains a line break, so a different path and key never make the same content.
    content = f"pico callback 1\n{path}\n{signed}".encode("utf-8", "surrogatepass")
    return _base64(hmac.digest(secret, content, "sha256"))


def _encode_key(key: str | None) -> str:
    if key is None:
        return ""
    raw = key.encode("utf-8", "surrogatepass")
    if len(raw) > _LONGEST_KEY:
        raise InvalidMessageError(
            f"`key` takes {len(raw):,} bytes. A signed callback has room for {_LONGEST_KEY}. Nothing was sent. Use a "
            "shorter key.",
            argument="key",
            reason=Reason.TOO_LONG,
        )
    return _base64(raw)


def _decode_key(encoded: str) -> str | None:
    if not encoded:
        return None
    try:
        return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeDecodeError):  # another program signed it with the same secret
        return None


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
