"""Hosts: which are this machine's own or its network's, and which are reached through a proxy."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pico_async.errors import ConfigurationError

# RFC 6761, 6762 (with its appendix G), 8375 and 9476, and what ICANN set apart for networks of one's own.
_OWN_ENDINGS = (
    *(".localhost", ".local", ".internal", ".localdomain", ".home.arpa", ".alt"),
    *(".lan", ".intranet", ".corp", ".private", ".home"),
)
# RFC 6052, RFC 2765 and, out of use, RFC 4291, 2.5.5.1: the last 32 bits are an IPv4 address.
_HOLD_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
# RFC 5214: the same, of any network, where this stands before it. The bit for "unique" is not looked at.
_ISATAP = 0x5EFE
# What is out there is in the first, but for the second: documentation (RFC 9637), which older Pythons do not know.
_GLOBAL, _DOCUMENTATION = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("3fff::/20")
# With a dot; any script's letters. Hangul's fillers are letters, too, and readers leave them out.
_NAME = r"[^\W.][\w-]*(\.[\w-]+)+"
_FILLERS = "\u115f\u1160"


def is_loopback(host: str | None) -> bool:
    """Say whether this is the machine's own address, or the name for it."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def is_nowhere(host: str | None) -> bool:
    """Say whether no name server can know the name (RFC 2606)."""
    return (host or "").endswith(".invalid")


def host_of(url: str) -> str | None:
    """Give the host of a web address; None where another reader of it may find another one, or none."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    # Browsers end the host at a backslash, and some readers take the first @, or what stands beside the brackets.
    user, _, place = parts.netloc.rpartition("@")
    if "@" in user or "\\" in parts.netloc or not re.fullmatch(r"(\[[^][]*\]|[^][:]*)(:[0-9]*)?", place):
        return None
    return host


def is_public(host: str | None) -> bool:
    """
    Say whether a name or an address may be one that everybody reaches.

    No name is looked up: one that leads to a private address is told from no other.
    """
    host = _folded((host or "").lower()).rstrip(".")
    if "%" in host:  # a zone of one's own, or signs that only some readers decode
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # What ends in a number is an address to a browser, also as 127.1 or 0x7f000001: none of those is meant well.
        # And a name without a dot is one of somebody's own network.
        last = host.rpartition(".")[2]
        return bool(re.fullmatch(_NAME, host)) and not (
            re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last) or host.endswith(_OWN_ENDINGS)
        )
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if within is None and (
            any(address in network for network in _HOLD_IPV4) or int(address) >> 32 & 0xFDFFFFFF == _ISATAP
        ):
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within is None and (address not in _GLOBAL or address in _DOCUMENTATION):
            return False
        address = within or address
    return address.is_global and not address.is_multicast


def _folded(host: str) -> str:
    """Write a host as those do who look it up (UTS 46), as far as it takes to see an address or an ending in it."""
    if host.isascii():
        return host
    # Nobody needs it but for such a name.
    from unicodedata import category, normalize

    # Also the ideographic full stop is a dot, and marks and what is not seen may be left out.
    folded = normalize("NFKC", host.casefold()).replace("\u3002", ".")
    return "".join(sign for sign in folded if category(sign)[0] not in "MC" and sign not in _FILLERS)


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
    host = _proxy_host(proxy)
    if is_loopback(target.hostname) and not is_loopback(host):
        return None
    if host is None:
        raise ConfigurationError(
            "The proxy that the environment names is no address: name it as http://host:port, or as "
            "http://user:password@host:port with what is special in user and password percent-encoded (a / is %2F)."
        )
    return proxy


def _proxy_host(proxy: str) -> str | None:
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    # Of a password with a / in it, the beginning would be taken for the port, and the user for the host.
    only_host = parts.path in ("", "/") and not parts.query and not parts.fragment
    return host if only_host and proxy.isprintable() and " " not in proxy else None
