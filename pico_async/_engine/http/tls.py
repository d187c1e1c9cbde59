"""The CA certificates: those of httpx, for both HTTP libraries."""

from __future__ import annotations

import ssl

import httpx

from pico_async.errors import ConfigurationError


def trusted(given: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """
    Return the given context, or load the CA certificates, from `SSL_CERT_FILE` or `SSL_CERT_DIR` if they are set.

    Loading takes longer than a request, so all connections share the result.

    Raises:
        ConfigurationError: They could not be loaded.
    """
    if given is not None:
        return given
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise ConfigurationError(
        f"The CA certificates could not be loaded ({reason}). Check SSL_CERT_FILE and SSL_CERT_DIR."
    )
