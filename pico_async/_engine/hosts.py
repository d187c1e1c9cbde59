"""Hosts: which are this machine's own, and which are reached through a proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pico_async.errors import ConfigurationError


def is_loopback(host: str | None) -> bool:
    """Say whether this is the machine's own address, or the name for it."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def proxy_for(base_url: str) -> str | None:
    """
    Give the proxy that the environment names for this host (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`), if any.

    What is on loopback reaches no proxy elsewhere: it would get the API key in the clear, and look on its own loopback.

    Raises:
        ConfigurationError: What the environment names is no address of a proxy; its credentials are not repeated.
    """
    target = urlsplit(base_url)
    # `NO_PROXY` may name an IPv6 address with brackets and without.
    if proxy_bypass(target.netloc) or proxy_bypass(target.hostname or ""):
        return None
    named = getproxies()
    proxy = (named.get(target.scheme) or named.get("all") or "").strip()
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    host = _host_of(proxy)
    if is_loopback(target.hostname) and not is_loopback(host):
        return None
    if host is None:
        raise ConfigurationError(
            "The proxy that the environment names is no address: name it as http://host:port, or as "
            "http://user:password@host:port with what is special in user and password percent-encoded (a / is %2F)."
        )
    return proxy


def _host_of(proxy: str) -> str | None:
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    # Of a password with a / in it, the beginning would be taken for the port, and the user for the host.
    only_host = parts.path in ("", "/") and not parts.query and not parts.fragment
    return host if only_host and proxy.isprintable() and " " not in proxy else None
