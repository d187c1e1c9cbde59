"""Check TLS: the certificate of the host, or the reason why it is not trusted."""

from __future__ import annotations

import math
import os
import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import httpx

from pico_async.cli.doctor.finding import Finding, State, failed

SOON_DAYS = 14

# OpenSSL's error numbers, X509_V_ERR_….
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_CLOCK = "Is the clock of this machine right? If it is, the host's owner must renew it."
_NAME = "Is the host of PICO_BASE_URL right? If it is, another server replies instead of it."
_VERIFY = {
    _NOT_YET: ("the certificate is not valid yet", _CLOCK),
    _EXPIRED: ("the certificate has expired", _CLOCK),
    _OTHER_HOST: ("the certificate is another host's", _NAME),
    _OTHER_ADDRESS: ("the certificate is not for this address", _NAME),
}
_UNTRUSTED = (
    "A company's proxy or a virus scanner may decrypt TLS and show its own certificate. Then put the certificate of "
    "its CA into a PEM file and set SSL_CERT_FILE to that file. Otherwise do not trust this server."
)


def load_tls_context() -> ssl.SSLContext | Finding:
    """Load the CA certificates that this machine trusts, as a session does; return a finding if that fails."""
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:  # SSLError is an OSError.
        fault = error.strerror if isinstance(error, FileNotFoundError) else "it contains no PEM certificate"
    source = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "certifi's file"
    return failed(
        "tls",
        f"The CA certificates could not be loaded from {source}: {fault}.",
        "Correct SSL_CERT_FILE or SSL_CERT_DIR, or unset them to trust certifi's CA certificates.",
    )


def handshake_success(tls: ssl.SSLObject, secured_s: float) -> Finding:
    """Return the finding of a complete handshake: the TLS version, and the certificate and its end."""
    certificate: dict[str, Any] = tls.getpeercert() or {}
    subject, issuer = (_name_of(certificate.get(part, ())) for part in ("subject", "issuer"))
    names = [name for _, name in certificate.get("subjectAltName", ())]
    ends_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = math.floor((ends_at - time.time()) / 86_400)
    until = datetime.fromtimestamp(ends_at, UTC).date().isoformat()
    soon = days < SOON_DAYS
    return Finding(
        check="tls",
        state=State.WARNING if soon else State.OK,
        message=f"{tls.version()}; the certificate is valid until {until}, {days} days",
        details=(f"subject: {subject or ', '.join(names[:3])}", f"issuer: {issuer}"),
        advice="The host's owner must renew it soon; after that date, sends fail." if soon else None,
        facts={
            "used": True,
            "version": tls.version(),
            "subject": subject,
            "names": names,
            "issuer": issuer,
            "ends_at": datetime.fromtimestamp(ends_at, UTC).isoformat(),
            "days_left": days,
            "ms": round(secured_s * 1000, 1),
        },
    )


def handshake_failure(
    fault: Exception | None, causes: Iterable[BaseException], origin: str, timeout_s: float
) -> Finding:
    """Return the finding of a handshake that failed, with the reason."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason, advice = _VERIFY.get(cause.verify_code, ("no CA that is trusted here has signed it", _UNTRUSTED))
            return failed(
                "tls",
                f"{origin} is not trusted: {reason} ({cause.verify_message}).",
                advice,
                verify_code=cause.verify_code,
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return failed(
                "tls",
                f"The server at {origin} does not speak TLS.",
                "Is the port right? Plain http:// is for a sandbox on loopback only.",
            )
    if isinstance(fault, TimeoutError | httpx.TimeoutException):
        message = f"{origin} accepted the connection, but completed no TLS handshake within {timeout_s:g} s."
    else:
        message = f"{origin} completed no TLS handshake ({' '.join(str(fault).split())[:200] or type(fault).__name__})."
    return failed(
        "tls", message, "A firewall or a proxy may inspect connections: ask the network's owner. Is the port right?"
    )


def _name_of(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Return a name of a certificate as "CN=…, O=…"."""
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
    return ", ".join(f"{short.get(kind, kind)}={value}" for part in name for kind, value in part)
