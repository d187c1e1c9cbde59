"""The sandbox sends receipts only to this machine and to allowed hosts."""

import socket

import anyio
import pytest

from pico_async.sandbox import Receipts, Sandbox
from tests.sandbox.receiver import receiving
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def names(monkeypatch):
    """Return a function that makes a name resolve to addresses; all other names resolve as usual."""
    known = {}
    real = anyio.getaddrinfo

    async def getaddrinfo(host, port, **options):
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]
        return await real(host, port, **options)

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    return lambda name, *addresses: known.update({name: addresses})


@pytest.mark.parametrize(
    "callback",
    [
        "http://192.0.2.1/dlr",
        "http://10.0.0.1/dlr",
        "http://0.0.0.0:1/dlr",
        "http://[::]/dlr",
        "http://169.254.169.254/latest/meta-data",
        "http://elsewhere.example/dlr",
        "http://mixed.example/dlr",
        "http://127.0.0.1@192.0.2.1/dlr",
        "http://127.0.0.1\\@192.0.2.1/dlr",
        "http://:80/dlr",
        "http://127.0.0.1:99999/dlr",
        "http://[::1/dlr",
    ],
)
async def test_a_callback_on_another_host_is_refused(connect, sms, names, monkeypatch, callback) -> None:
    """A malformed callback, or one with any address beyond loopback, is refused, and no connection is opened."""
    names("elsewhere.example", "192.0.2.1")
    names("mixed.example", "127.0.0.1", "192.0.2.1")
    opened = []

    async def connect_tcp(*arguments, **options):
        opened.append(arguments)
        raise OSError

    sandbox = Sandbox(receipts=Receipts(tries=3))
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms(callback=callback))
    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)

    tried = await sandbox.deliver_receipts(everything=True)

    shown = (await pico.get("/_sandbox/outbox/messages/0")).json()
    assert (opened, tried) == ([], 2)
    assert shown["state"] == "refused"


async def test_receipts_for_an_allowed_host_go_to_the_checked_address(connect, sms, names, monkeypatch) -> None:
    """Receipts for an allowed host go to the address that was checked, with the name in Host."""
    names("app.example", "127.0.0.1")
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(timeout_s=PATIENCE_S, allow_hosts=["APP.example"]))
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=f"http://app.example:{receiver.port}/dlr"))
        assert await sandbox.deliver_receipts(everything=True) == 2

    assert receiver.got[0][1]["host"] == f"app.example:{receiver.port}"


async def test_each_address_of_a_loopback_name_is_tried(connect, sms, names) -> None:
    """If nothing listens at the first address of a name such as localhost, the next address is tried."""
    names("localhost", "127.0.0.9", "127.0.0.1")
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(timeout_s=PATIENCE_S))
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=f"http://localhost:{receiver.port}/dlr"))

        assert await sandbox.deliver_receipts(everything=True) == 2
    assert len(receiver.got) == 2
