"""Hosts: which are this machine's own, and which are reached through a proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


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
    """
    parts = urlsplit(base_url)
    if proxy_bypass(parts.netloc):
        return None
    named = getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    return None if is_loopback(parts.hostname) and not is_loopback(urlsplit(proxy).hostname) else proxy
