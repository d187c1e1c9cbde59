"""TLS: what the certificate says, or why there is no trust."""

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

# By OpenSSL's number, X509_V_ERR_….
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_CLOCK = "Is the clock of this machine right? If it is, the host's owner must renew it."
_NAME = "Is the host of PICO_BASE_URL right? If it is, something on the way answers in its origin."
_VERIFY = {
    _NOT_YET: ("the certificate is not valid yet", _CLOCK),
    _EXPIRED: ("the certificate has expired", _CLOCK),
    _OTHER_HOST: ("the certificate is another host's", _NAME),
    _OTHER_ADDRESS: ("the certificate is not for this address", _NAME),
}
_UNTRUSTED = (
    "Something on the way (a company's proxy, a virus scanner) may open TLS and show a certificate of its own: put its "
    "authority into a PEM file and name that in SSL_CERT_FILE. If there is nothing of that kind, trust nobody there."
)


def trust() -> ssl.SSLContext | Finding:
    """Read whom this machine trusts, as a session does; or tell why that cannot be."""
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        fault = error.strerror if isinstance(error, FileNotFoundError) else "it holds no certificate in PEM"
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "certifi's file"
    return failed(
        "tls",
        f"The authorities to trust cannot be read from {named}: {fault}.",
        "Correct SSL_CERT_FILE or SSL_CERT_DIR, or leave them out: then certifi's authorities are trusted.",
    )


def handshake_success(tls: ssl.SSLObject, secured_s: float) -> Finding:
    """Tell of a handshake that was made: the version, whose certificate it is, and how long it lasts."""
    told: dict[str, Any] = tls.getpeercert() or {}
    subject, issuer = (_named(told.get(part, ())) for part in ("subject", "issuer"))
    names = [name for _, name in told.get("subjectAltName", ())]
    ends_at = ssl.cert_time_to_seconds(told["notAfter"])
    days = math.floor((ends_at - time.time()) / 86_400)
    until = datetime.fromtimestamp(ends_at, UTC).date().isoformat()
    soon = days < SOON_DAYS
    return Finding(
        check="tls",
        state=State.WARNING if soon else State.OK,
        message=f"{tls.version()}; the certificate lasts until {until}, {days} days",
        details=(f"subject: {subject or ', '.join(names[:3])}", f"issuer: {issuer}"),
        advice="It is soon to be renewed by the host's owner; sends fail from then on." if soon else None,
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
    """Tell why there was no handshake."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            said, advice = _VERIFY.get(cause.verify_code, ("no authority that is trusted here signed it", _UNTRUSTED))
            return failed(
                "tls",
                f"{origin} is not to be trusted: {said} ({cause.verify_message}).",
                advice,
                verify_code=cause.verify_code,
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return failed(
                "tls",
                f"What answers at {origin} speaks no TLS.",
                "Is the port right? Plain http:// is for a sandbox on loopback only.",
            )
    if isinstance(fault, TimeoutError | httpx.TimeoutException):
        said = f"{origin} took the connection, and no TLS handshake was made within {timeout_s:g} s."
    else:
        said = f"{origin} made no TLS handshake ({' '.join(str(fault).split())[:200] or type(fault).__name__})."
    return failed(
        "tls", said, "A firewall or a proxy may look into connections: ask who runs the network. Is the port right?"
    )


def _named(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Give a certificate's name as "CN=…, O=…"."""
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
    return ", ".join(f"{short.get(kind, kind)}={value}" for part in name for kind, value in part)
