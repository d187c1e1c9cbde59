"""Which hosts Pico may be told to call."""

from __future__ import annotations

import pytest

from pico_async._engine.hosts import is_public

PRIVATE = [
    "localhost",
    "localhost.",
    "LOCALHOST",
    "a.localhost",
    "printer.local",
    "db.internal",
    "metadata.google.internal",
    "nas.lan",
    "router.home.arpa",
    "intranet",
    "picotw",
    "127.0.0.1",
    "127.1",
    "127.0.0.1.",
    "0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "192.0.2.1",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "2001:db8::1",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:a00:1::",
]
PUBLIC = [
    "example.com",
    "picotw.com",
    "xn--fiq228c.example.com",
    "local.example.com",
    "8.8.8.8",
    "2606:4700::1111",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("host", ["", None, ".", *PRIVATE])
def test_what_only_this_machine_or_its_network_reaches_is_not_public(host: str | None) -> None:
    """Also where it is written so that a filter may not see it."""
    assert not is_public(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_what_everybody_reaches_is_public(host: str) -> None:
    """No name is looked up for it."""
    assert is_public(host)
