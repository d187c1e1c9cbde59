"""Transports of httpx2 are taken beside those of httpx, with the same certainty about what was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pico_async import ConfigurationError, NoResponseError, NotSentError, PicoSession, Rates
from tests.support.ports import free_port
from tests.support.readme import ROOT
from tests.support.sandbox_process import SandboxProcess


def session(base_url: str, transport: httpx2.AsyncBaseTransport, **settings: Any) -> PicoSession:
    return PicoSession(
        username="user333",
        api_key="key",
        sender="Pico",
        base_url=base_url,
        transport=transport,
        retries=0,
        **settings,
    )


async def test_it_sends_and_knows_what_was_sent(quick: SandboxProcess) -> None:
    """Over a transport of httpx2, a message is sent; one that has no reply is in doubt."""
    settings = {"api_key": quick.api_key, "rates": Rates(sms=None)}
    async with PicoSession(
        username="user333",
        sender="Pico",
        base_url=quick.base_url,
        transport=httpx2.AsyncHTTPTransport(),
        retries=0,
        **settings,  # type: ignore[arg-type]
    ) as pico:
        await pico.sms.send("8612345678901", "hi")
        with pytest.raises(NoResponseError):
            await pico.sms.send("99900000001", "accepted, and no reply")

    assert len(quick.ledger().sent_to("8612345678901")) == 1


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    """A connection that is refused proves that nothing was sent, as with httpx."""
    async with session(f"http://127.0.0.1:{free_port()}", httpx2.AsyncHTTPTransport()) as pico:
        with pytest.raises(NotSentError, match="no connection"):
            await pico.sms.send("8612345678901", "hi")


async def test_a_transport_that_reports_no_writes_proves_it_by_its_error() -> None:
    """With a transport of the user's, only an error before the connection is open proves that nothing was sent."""
    errors = {"ConnectError": NotSentError, "ReadTimeout": NoResponseError}
    for name, raised in errors.items():

        def answer(request: httpx2.Request, name: str = name) -> httpx2.Response:
            if "/token/" in request.url.path:
                return httpx2.Response(200, json={"token": "t-1"})
            raise getattr(httpx2, name)("no")

        async with session("https://pico.example", httpx2.MockTransport(answer)) as pico:
            with pytest.raises(raised):
                await pico.sms.send("8612345678901", "hi")


def test_http2_is_refused() -> None:
    """A transport that speaks HTTP/2 is refused, as one of httpx."""
    pytest.importorskip("h2")
    with pytest.raises(ConfigurationError, match="HTTP/2"):
        session("https://pico.example", httpx2.AsyncHTTPTransport(http2=True))


@pytest.mark.full
def test_the_tests_of_the_engine_pass_with_httpx2_in_the_place_of_httpx(tmp_path: Path) -> None:
    """The tests of the engine pass where `import httpx` gives httpx2, except that of httpx's own CA certificates."""
    alias = "import sys, httpx2, httpcore2\nsys.modules |= {'httpx': httpx2, 'httpcore': httpcore2}\n"
    (tmp_path / "alias.py").write_text(alias)

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "alias", "tests/engine", "-k", "not public_authorities"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
