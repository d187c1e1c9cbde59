"""Check the account's settings: where each comes from, and whether a session would accept it."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen

from pico_async._engine.hosts import is_loopback, proxy_for
from pico_async._engine.wire import Account
from pico_async._masking import mask
from pico_async._settings import (
    DEFAULT_BASE_URL,
    WHITELIST_BASE_URL,
    checked_account,
    checked_api_key,
    checked_base_url,
    checked_callback,
    checked_log_level,
    checked_sender,
    checked_username,
)
from pico_async.cli.account_options import AccountOptions, read_api_key
from pico_async.cli.doctor.finding import Finding, State
from pico_async.coordination.token_cache import Secret
from pico_async.errors import ConfigurationError
from pico_async.receipts.callbacks import checked_signer

Value = TypeVar("Value")

_VARIABLES = (
    "PICO_USERNAME",
    "PICO_API_KEY",
    "PICO_BASE_URL",
    "PICO_SENDER",
    "PICO_CALLBACK",
    "PICO_CALLBACK_SECRETS",
    "PICO_LOG",
    "PICO_REDIS_URL",
    "PICO_REDIS_PREFIX",
    "PICO_REGION",
    "PICO_SUPPRESS",
)
# An invalid value may contain a secret or a number, so it is not shown.
_INVALID = "set, but not valid"


@frozen(kw_only=True)
class Configuration:
    """
    The settings that further checks need.

    Attributes:
        base_url: Base URL of Pico; None where it, or the proxy for it, is not valid.
        proxy: URL of the proxy, which may contain a password.
        username: None where a session would refuse the settings.
    """

    finding: Finding
    base_url: str | None
    proxy: str | None = field(repr=False)
    username: str | None
    api_key: Secret | None = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.base_url or "").hostname or ""


def check_configuration(
    account: AccountOptions, sources: Mapping[str, str], *, sender: str | None, callback: str | None
) -> Configuration:
    """Check the settings as a session would; *sources* names the option or variable of each that is set."""
    faults: list[str] = []
    lines: list[str] = []
    facts: dict[str, object] = {}

    def record(name: str, shown: str | None, source: str | None) -> None:
        facts[name] = {"value": shown, "from": source}
        lines.append(f"{name.replace('_', ' ')}: {shown or 'none'}{f', from {source}' if source else ''}")

    def accepted(check: Callable[[], Value]) -> Value | None:
        try:
            return check()
        except ConfigurationError as error:
            faults.append(str(error))
            return None

    def base_url_and_proxy() -> tuple[str, str | None]:
        address = checked_base_url(account.base_url or DEFAULT_BASE_URL)
        record("base_url", address, sources.get("base_url", "the default"))
        return address, proxy_for(address)

    username = accepted(lambda: checked_username(account.username))
    record("username", username, sources.get("username"))
    source, api_key = accepted(lambda: _api_key(account.api_key_file)) or (None, None)
    record("api_key", None if api_key is None else "set, not shown", source)
    base_url, proxy = accepted(base_url_and_proxy) or (None, None)
    if proxy is not None:
        # Without its credentials.
        record("proxy", origin_of(proxy), "the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or the system's)")
    checked = accepted(lambda: checked_sender(sender))
    # A name is shown as it is, a phone number masked.
    record("sender", mask(checked) if checked and any(map(str.isdigit, checked)) else checked, sources.get("sender"))
    receipts = accepted(lambda: checked_callback(callback))
    # The rest of the URL may contain a secret that identifies the caller.
    address = f"a URL at {urlsplit(receipts).hostname}" if receipts else _INVALID if callback else None
    record("callback", address, sources.get("callback"))
    secrets = os.environ.get("PICO_CALLBACK_SECRETS")
    signer = accepted(lambda: checked_signer(None, secrets))
    shown = "set, not shown" if signer else _INVALID if secrets else None
    record("callback_secrets", shown, "PICO_CALLBACK_SECRETS" if shown else None)
    loopback = base_url is not None and is_loopback(urlsplit(base_url).hostname)
    accepted(lambda: checked_account(Account(username or "", callback=receipts, signer=signer, loopback_urls=loopback)))
    log = os.environ.get("PICO_LOG")
    level = accepted(lambda: checked_log_level(log))
    shown = logging.getLevelName(level).lower() if level else _INVALID if log else None
    record("log", shown, "PICO_LOG" if shown else None)
    fleet = account.fleet
    record("redis", None if fleet is None else "set, not shown", sources.get("redis") if fleet else None)
    warnings = [*_unknown_variables(), *_strange_host(base_url)]
    if not sender:
        warnings.append("There is no sender: set PICO_SENDER, or pass a sender with each SMS and MMS.")
    facts["whitelist_host"] = base_url == WHITELIST_BASE_URL
    state, message, advice = State.OK, "A session accepts the settings.", None
    if base_url == WHITELIST_BASE_URL:
        message += " This is the host for accounts with the IP whitelist."
    if faults or warnings:
        state, message, advice = State.WARNING, " ".join([*faults, *warnings]), "If this is not intended, correct it."
    if faults:
        state, advice = State.FAILED, "Correct the settings; `pico doctor --help` lists the options and variables."
    finding = Finding(
        check="configuration", state=state, message=message, details=tuple(lines), advice=advice, facts=facts
    )
    return Configuration(
        finding=finding,
        base_url=base_url,
        proxy=proxy,
        username=None if faults else username,
        api_key=api_key,
    )


def _api_key(file: str | None) -> tuple[str, Secret]:
    source, key = read_api_key(file)
    return source, checked_api_key(key)


def origin_of(address: str) -> str:
    """Return the scheme, host and port of a URL, without parts that may be secret."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _unknown_variables() -> Iterator[str]:
    for name in sorted(os.environ):
        if name.startswith("PICO_") and name not in _VARIABLES:
            near = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.9)
            if near:
                yield f"{name} is set, but has no meaning: did you mean {near[0]}?"


def _strange_host(base_url: str | None) -> Iterator[str]:
    if base_url is None or base_url in (DEFAULT_BASE_URL, WHITELIST_BASE_URL):
        return
    host = urlsplit(base_url).hostname
    if not is_loopback(host):
        yield f"{host} is not one of Pico's hosts ({DEFAULT_BASE_URL} or {WHITELIST_BASE_URL}), but gets the API key."
