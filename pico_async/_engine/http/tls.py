"""The CA certificates: those of httpx, loaded once for all sessions and both HTTP libraries."""

from __future__ import annotations

import os
import ssl
from functools import cache, lru_cache

import httpx

from pico_async.errors import ConfigurationError


def context_for(given: ssl.SSLContext | None, *urls: str | None) -> ssl.SSLContext:
    """
    Return the TLS context for connections to these URLs, of a host and perhaps its proxy.

    It is the given one if there is one. Else it loads no CA certificates if none of the URLs is https.

    Raises:
        ConfigurationError: The CA certificates could not be loaded.
    """
    if given is not None:
        return given
    is_secure = any(url is not None and url.lower().startswith("https:") for url in urls)
    return trusted() if is_secure else _without_authorities()


def trusted() -> ssl.SSLContext:
    """
    Return the TLS context with the CA certificates, from `SSL_CERT_FILE` or `SSL_CERT_DIR` if they are set.

    Loading takes longer than a request, and some 850 KB, so all sessions share one context until the files change.

    Raises:
        ConfigurationError: They could not be loaded.
    """
    import certifi  # Here, because httpx too imports it only with the first TLS context.

    return _loaded(*map(_version, (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), certifi.where())))


def _version(path: str | None) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path or "")
    except OSError:
        return None
    return path or "", found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1)
def _loaded(*_: object) -> ssl.SSLContext:
    """Load the CA certificates. The arguments are the versions of their files."""
    try:
        context = httpx.create_ssl_context()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        context.set_alpn_protocols(["http/1.1"])
        # httpcore sets the same again for each connection. OpenSSL might read it in another thread at that moment.
        context.set_alpn_protocols = lambda alpn_protocols: None  # type: ignore[method-assign]
        return context
    raise ConfigurationError(
        f"The CA certificates could not be loaded ({reason}). Check SSL_CERT_FILE and SSL_CERT_DIR."
    )


@cache
def _without_authorities() -> ssl.SSLContext:
    """Return a TLS context that trusts no host, for connections that use no TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
