"""Whom to trust: the authorities that httpx does, whichever library carries the requests."""

from __future__ import annotations

import ssl

import httpx

from pico_async.errors import ConfigurationError


def trusted() -> ssl.SSLContext:
    """
    Read the authorities, from `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set.

    It takes longer than a request, so all connections share it.

    Raises:
        ConfigurationError: They cannot be read.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise ConfigurationError(
        f"The authorities to trust cannot be read ({reason}): correct SSL_CERT_FILE or SSL_CERT_DIR."
    )
