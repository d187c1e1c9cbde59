"""The outbox page is served with its files and a strict policy, and offers all that the sandbox can do."""

import re
from importlib.resources import files

import pytest

import pico_async.sandbox
from pico_async.sandbox import Fault, RateRule
from pico_async.sandbox.operations import NAMES, RATES
from pico_async.sandbox.outbox.page import _FILES


async def test_the_page_and_its_files_are_served(served) -> None:
    """The page and its files come with a policy against outside and inline code, and are not recorded as arrivals."""
    sandbox, client = served
    before = len(sandbox.ledger.arrivals)

    replies = {name: await client.get(f"/_sandbox/outbox/{name}") for name in _FILES}
    page = await client.get("/")

    assert page.text == replies["outbox.html"].text
    assert '<script type="module" src="/_sandbox/outbox/outbox.js">' in page.text
    for reply in replies.values():
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert len(sandbox.ledger.arrivals) == before


def test_every_file_of_the_page_is_in_the_table() -> None:
    """The table lists every file of the page; a file that is not in the table would never be served."""
    there = {file.name for file in (files(pico_async.sandbox) / "outbox" / "static").iterdir()}

    assert there == set(_FILES)


def test_the_panel_offers_every_choice() -> None:
    """The panel, whose lists are its own, offers every fault, operation, rule and rate."""
    source = (files(pico_async.sandbox) / "outbox" / "static" / "chaos.js").read_text(encoding="utf-8")

    offered = {
        name: set(re.findall(r'"([^"]+)"', re.search(rf"const {name} = \[(.*?)\];", source, re.DOTALL)[1]))
        for name in ("FAULTS", "OPERATIONS", "RULES", "RATES")
    }

    assert offered == {"FAULTS": set(Fault), "OPERATIONS": {*NAMES, "*"}, "RULES": set(RateRule), "RATES": set(RATES)}


def test_no_file_makes_markup_of_text_or_names_another_host() -> None:
    """No file of the page makes markup of text, has an inline handler or style, or names an outside address."""
    for name in _FILES:
        source = (files(pico_async.sandbox) / "outbox" / "static" / name).read_text(encoding="utf-8")
        forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "javascript:",
            " style=",
            "onclick=",
        ]
        assert [word for word in forbidden if word in source] == [], name
        assert [address for address in re.findall(r"http://[\w.]+", source) if address != "http://www.w3.org"] == []
        assert "https:" not in source


@pytest.mark.parametrize(
    "path", ["/_sandbox/outbox/../page.py", "/_sandbox/outbox/%2e%2e%2fpage.py", "/_sandbox/outbox/page.py"]
)
async def test_only_the_pages_files_are_served(served, path) -> None:
    """A path that names no file of the page is answered with 404."""
    _, client = served

    reply = await client.get(path)

    assert reply.status_code == 404
