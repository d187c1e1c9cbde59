"""Classify hosts: loopback, private or public, and reached through a proxy or not."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from unicodedata import category, normalize
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pico_async.errors import ConfigurationError

# RFC 6761, 6762 (with its appendix G), 8375 and 9476, and the names that ICANN reserves for private networks.
_PRIVATE_SUFFIXES = (
    *(".localhost", ".local", ".internal", ".localdomain", ".home.arpa", ".alt"),
    *(".lan", ".intranet", ".corp", ".private", ".home"),
)
# RFC 6052, RFC 2765 and the deprecated RFC 4291, 2.5.5.1: the last 32 bits are an IPv4 address.
_CONTAIN_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
# RFC 5214: in any network, the last 32 bits are an IPv4 address if this value stands before them. The bit for "unique"
# (0x02000000) is masked out.
_ISATAP = 0x5EFE
# Public addresses are in the first network, but not in the second one (RFC 9637), which older Pythons do not know.
_GLOBAL, _DOCUMENTATION = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("3fff::/20")
# Contains a dot; letters of any script. Hangul fillers are letters too, and some programs ignore them.
_NAME = re.compile(r"[^\W.][\w-]*(\.[\w-]+)+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HOST_AND_PORT = re.compile(r"(\[[^][]*\]|[^][:]*)(:[0-9]*)?")
_FILLERS = "\u115f\u1160"


def is_loopback(host: str | None) -> bool:
    """Return whether this is a loopback address, or "localhost"."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def is_unresolvable(host: str | None) -> bool:
    """Return whether the name cannot be resolved by definition (RFC 2606)."""
    return (host or "").endswith(".invalid")


def host_of(url: str) -> str | None:
    """Return the host of a URL; None if there is none, or if another program may read a different one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    # Browsers end the host at a backslash. Some programs split at the first @, or read what follows the brackets.
    user, _, host_and_port = parts.netloc.rpartition("@")
    if "@" in user or "\\" in parts.netloc or not _HOST_AND_PORT.fullmatch(host_and_port):
        return None
    return host


def is_public(host: str | None) -> bool:
    """
    Return whether a name or an address may be public.

    Names are not resolved, so a name that resolves to a private address counts as public.
    """
    host = _folded((host or "").lower()).rstrip(".")
    if "%" in host:  # a zone ID, or escapes that only some programs decode
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A browser reads a name that ends in a number as an address, such as 127.1 or 0x7f000001; it may be private.
        # A name without a dot belongs to a private network.
        last = host.rpartition(".")[2]
        return bool(_NAME.fullmatch(host)) and not (_NUMBER.fullmatch(last) or host.endswith(_PRIVATE_SUFFIXES))
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _embedded_ipv4(address)
        if embedded is None and (address not in _GLOBAL or address in _DOCUMENTATION):
            return False
        address = embedded or address
    return address.is_global and not address.is_multicast


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    is_isatap = int(address) >> 32 & 0xFDFFFFFF == _ISATAP
    if embedded is None and (is_isatap or any(address in network for network in _CONTAIN_IPV4)):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return embedded


def _folded(host: str) -> str:
    """Return the host in the form in which it is resolved (UTS 46), as far as addresses and suffixes need it."""
    if host.isascii():
        return host
    # The ideographic full stop is a dot. Marks and invisible characters may be ignored.
    folded = normalize("NFKC", host.casefold()).replace("\u3002", ".")
    return "".join(
        character for character in folded if category(character)[0] not in "MC" and character not in _FILLERS
    )


def proxy_for(base_url: str) -> str | None:
    """
    Return the proxy for this host from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`), or None.

    A proxy on another machine is not used for loopback: it would get the API key in the clear, and reach its own
    loopback.

    Raises:
        ConfigurationError: The environment does not name a valid proxy. The error does not repeat its credentials.
    """
    target = urlsplit(base_url)
    named = getproxies()
    # `NO_PROXY` may name an IPv6 address with or without brackets.
    if proxy_bypass(target.netloc) or proxy_bypass(target.hostname or ""):
        return None
    if _is_in_network(target.hostname or "", named.get("no", "")):
        return None
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
            "The proxy that the environment names is no address. Name it as http://host:port, or as "
            "http://user:password@host:port. Percent-encode special characters in user and password (a / is %2F)."
        )
    return proxy


def _is_in_network(host: str, names: str) -> bool:
    """Return whether the host is an address in one of the networks of `NO_PROXY`, as "10.0.0.0/8"."""
    for name in names.split(","):
        if "/" in name:
            with suppress(ValueError):
                if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip(), strict=False):
                    return True
    return False


def _proxy_host(proxy: str) -> str | None:
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    # With a / in the password, its beginning would be read as the port, and the user as the host.
    only_host = parts.path in ("", "/") and not parts.query and not parts.fragment
    return host if only_host and proxy.isprintable() and " " not in proxy else None
