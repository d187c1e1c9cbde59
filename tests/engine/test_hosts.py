"""These tests check which hosts are public, and which host a URL names."""

from __future__ import annotations

import socket

import pytest

from pico_async._engine.hosts import host_of, is_public

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
    "64:ff9b:1::a00:1",
    "::ffff:0:a00:1",
    "2001:470::5efe:a00:1",
    "2001:470::200:5efe:a00:1",
    "fec0::1",
    "3fff::1",
    "2606:4700::1%eth0",
    "nas.home",
    "nas.private",
    "１２７.０.０.１",
    "127.0.0.１",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "metadata.google。internal",
    "db.ｉnternaℓ",
    "127.0.0.1\ufe0f",
    "127.0.0.1\u034f",
    "nas.local\u3164",
    "127.0.0.%31",
    "db.interna%6c",
    "127.0.0.1|example.com",
    "127.0.0.1,example.com",
    ".example.com",
    "a..example.com",
    "v1.fe80::1",
]
PUBLIC = [
    "example.com",
    "picotw.com",
    "xn--fiq228c.example.com",
    "local.example.com",
    "8.8.8.8",
    "2606:4700::1111",
    "64:ff9b::808:808",
    "例え.jp",
    "中文.中国",
    "हिन्दी.example.com",
    "my_files.example.com",
]


@pytest.mark.parametrize("host", ["", None, ".", *PRIVATE])
def test_what_only_this_machine_or_its_network_reaches_is_not_public(host: str | None) -> None:
    """A host that only this machine or its network can reach is not public, however the host is spelled."""
    assert not is_public(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_what_everybody_reaches_is_public(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on the public Internet is recognised as public, without a look-up of its name."""
    for look_up in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, look_up, None)

    assert is_public(host)


@pytest.mark.parametrize(
    "url",
    [
        r"https://10.0.0.1\@example.com/",
        r"https://10.0.0.1\.example.com/",
        "https://a@10.0.0.1@example.com/",
        "https://[2606:4700::1111].10.0.0.1/",
        "https://10.0.0.1[2606:4700::1111]/",
        "https://[2606:4700::1%25@10.0.0.1]/",
        "https://[::1",
        "https://example.com:99999/",
    ],
)
def test_a_url_that_is_read_in_two_ways_has_no_host(url: str) -> None:
    """A URL that two parsers could read differently has no host, because Pico might call an unchecked host."""
    assert host_of(url) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com", "example.com"),
        ("https://Example.COM:8080/a?b=https://10.0.0.1/@#\\", "example.com"),
        ("https://user:pass@example.com:/", "example.com"),
        ("https://example.com@10.0.0.1/", "10.0.0.1"),
        ("https://[2606:4700::1111]:443/", "2606:4700::1111"),
    ],
)
def test_a_url_that_is_read_in_one_way_has_its_host(url: str, host: str) -> None:
    """The host of an unambiguous URL is returned without its port, user and path."""
    assert host_of(url) == host
