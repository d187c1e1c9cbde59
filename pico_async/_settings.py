"""Checks of the session's arguments. An error names the argument and repeats no secret."""

from __future__ import annotations

import inspect
import logging
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from pico_async._engine.decision import MAX_RETRIES
from pico_async._engine.endpoints import GET_TOKEN
from pico_async._engine.hosts import is_loopback
from pico_async._engine.http.httpx_library import library_of
from pico_async._engine.wire import Account
from pico_async.coordination.protocols import Coordinator, Identity
from pico_async.coordination.rates import Rates
from pico_async.coordination.token_cache import Secret
from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.messages import is_web_address
from pico_async.receipts.callbacks import signable_path

DEFAULT_BASE_URL = "https://rest.picotw.com"
WHITELIST_BASE_URL = "https://api.picotw.com"
"""The host for accounts with the IP whitelist feature."""

_PICO_HOSTS = {urlsplit(url).hostname for url in (DEFAULT_BASE_URL, WHITELIST_BASE_URL)}

_LONGEST_TIMEOUT_S = 86_400
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e]+")
_BASE_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~-]*)*")


def checked_username(username: str | None) -> str:
    """Return the username, or raise if it is missing or does not fit into a path."""
    if not username:
        raise ConfigurationError("There is no username: pass `username=` or set PICO_USERNAME.")
    try:
        GET_TOKEN.path_with(username=username)
    except InvalidMessageError as error:
        raise ConfigurationError(str(error)) from None
    return username


def checked_api_key(api_key: str | None) -> Secret:
    """Return the API key, or raise if it is missing or does not fit into a header."""
    if not api_key:
        raise ConfigurationError("There is no API key: pass `api_key=` or set PICO_API_KEY.")
    if not isinstance(api_key, str) or not _PRINTABLE_ASCII.fullmatch(api_key):
        # httpx's own error would quote it.
        raise ConfigurationError(
            "`api_key` contains a blank, a line break or another character that a header cannot contain. Was it copied "
            "with something around it?"
        )
    return Secret(api_key)


def checked_sender(sender: str | None) -> str | None:
    if not sender:
        return None
    if not isinstance(sender, str) or not sender.isprintable():
        raise ConfigurationError("`sender` must be a str without control characters.")
    return sender


def checked_callback(callback: str | None) -> str | None:
    if not callback:
        return None
    if not is_web_address(callback):
        raise ConfigurationError("`callback` is not a web address. Pass one such as 'https://example.com/receipts'.")
    return callback


def checked_account(account: Account) -> Account:
    """Return the account, or raise if its callback is private, or cannot be signed although there is a signer."""
    if not isinstance(account.private_urls, bool):
        raise ConfigurationError("`allow_private_urls` must be True or False.")
    if account.callback is None:
        return account
    try:
        account.reachable("callback", account.callback)
    except InvalidMessageError as error:
        raise ConfigurationError(str(error)) from None
    if account.signer is not None:
        signable_path(account.callback)
    return account


def checked_base_url(base_url: str) -> str:
    """Return the base URL, or raise if it is not safe to send a key to."""
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError):
        parts, host = None, None
    if parts is None or not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"`base_url` is not a URL. Pass one as {DEFAULT_BASE_URL!r}.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("`base_url` must not contain credentials, a query or a fragment.")
    if not _BASE_URL.fullmatch(base_url) or "/.." in parts.path:
        raise ConfigurationError(
            f"`base_url` contains a character that is not allowed there. Pass it as {DEFAULT_BASE_URL!r}."
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            "`base_url` must be https: plain http would show the API key to the network. http is allowed on loopback."
        )
    return base_url.rstrip("/")


def checked_retries(retries: int) -> int:
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= MAX_RETRIES:
        raise ConfigurationError(f"`retries` must be a whole number from 0 to {MAX_RETRIES}.")
    return retries


def checked_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST_TIMEOUT_S:
        raise ConfigurationError("`timeout` must be a positive number of seconds, at most a day.")
    return timeout


def checked_tls(tls: object, transport: object) -> ssl.SSLContext | None:
    """Return the context, or raise if it is none, trusts anybody, or has no effect with this transport."""
    if tls is None:
        return None
    if not isinstance(tls, ssl.SSLContext):
        raise ConfigurationError(
            "`ssl` must be an ssl.SSLContext, such as ssl.create_default_context(cafile='authority.pem')."
        )
    if tls.verify_mode is not ssl.CERT_REQUIRED:
        raise ConfigurationError(
            "`ssl` verifies no certificate, so the API key would be sent to any host that answers. Load the authority "
            "that issued it, such as by ssl.create_default_context(cafile='authority.pem')."
        )
    if library_of(transport) is not None:
        raise ConfigurationError(
            "`ssl` has no effect with a transport of httpx or httpx2. Pass it to that, as "
            "httpx.AsyncHTTPTransport(verify=context)."
        )
    return tls


def checked_retry_in_doubt(retry_in_doubt: bool) -> bool:
    """Return the flag, or raise if it is not a bool: a merely truthy value could send messages twice."""
    if not isinstance(retry_in_doubt, bool):
        raise ConfigurationError("`retry_in_doubt` must be True or False.")
    return retry_in_doubt


def checked_coordinator(coordinator: object, rates: object) -> Coordinator | None:
    """Return the coordinator, or raise if it or *rates* has the wrong type, or both are given."""
    if rates is not None and not isinstance(rates, Rates):
        raise ConfigurationError("`rates` must be a Rates, such as Rates(sms=100).")
    if coordinator is not None and not isinstance(coordinator, Coordinator):
        raise ConfigurationError("`coordinator` must be a Coordinator, such as RedisCoordinator.from_url('redis://…').")
    if coordinator is not None and rates is not None:
        raise ConfigurationError("`rates` has no effect with `coordinator`. Pass the rates to the coordinator.")
    return coordinator


def checked_listeners(on_event: object) -> tuple[Callable[..., object], ...]:
    """Return the listeners, or raise if one cannot be called during a send."""
    if on_event is None:
        return ()
    listeners: tuple[Any, ...] = tuple(on_event) if isinstance(on_event, list | tuple) else (on_event,)
    for listener in listeners:
        if not callable(listener):
            raise ConfigurationError("`on_event` must be a function that takes an event, or a list of them.")
        if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(listener.__call__):
            raise ConfigurationError(
                "`on_event` must be a plain function, because a send does not wait for it. For slow work, put the "
                "event into an asyncio.Queue."
            )
    return listeners


def checked_log_level(named: str | None) -> int | None:
    """Return the level of `PICO_LOG`, or raise if it is neither 'debug' nor 'info'."""
    if not named:
        return None
    level = {"debug": logging.DEBUG, "info": logging.INFO}.get(named.lower())
    if level is None:
        raise ConfigurationError("PICO_LOG must be 'debug' or 'info', or be unset.")
    return level


def place(base_url: str) -> str:
    """Return the name of the destination for a journal: "Pico" for both of its hosts, else the host without port."""
    host, _ = _host_and_port(base_url)
    return "Pico" if host in _PICO_HOSTS else "loopback" if is_loopback(host) else host


def counted_at(base_url: str) -> str:
    """
    Return the name of the server that counts the requests of an API key.

    Pico counts the requests to all its hosts together. A stand-in for Pico counts by host and port; all names of the
    loopback are one host.
    """
    where = place(base_url)
    return where if where == "Pico" else f"{where}:{_host_and_port(base_url)[1]}"


def address(base_url: str) -> str:
    """Return the URL in normal form: with its port, in lower case, without a last dot in the host."""
    host, port = _host_and_port(base_url)
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{host}:{port}{parts.path}"


def identity(base_url: str, username: str, api_key: Secret) -> Identity:
    """Return what a coordinator of this account serves."""
    return Identity.of(counted_at(base_url), address(base_url), username, api_key.value)


def _host_and_port(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    host = (parts.hostname or "").rstrip(".")
    with suppress(ValueError):
        host = str(ip_address(host))
    return host, parts.port or (443 if parts.scheme == "https" else 80)
