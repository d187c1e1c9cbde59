"""The pytest plugin in projects of its own, each run by a pytest in a process of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

# What each way to run a coroutine must give: the same tests, with another line above them.
ASYNC_TESTS = """
import pytest
from pico_async import InDoubtError, SmsMessage

TO = "+86 123-4567-8901"


async def test_a_message_is_sent_and_read(pico, pico_sandbox):
    accepted = await pico.sms.send(TO, "Order 12345678: your code is 4711")

    assert [message.request_id for message in pico_sandbox.sent_to("8612345678901")] == [accepted.request_id]
    assert pico_sandbox.otp_for(TO) == "4711"
    assert pico_sandbox.ledger.token_requests == 1


async def test_a_fault_is_met(pico, pico_sandbox):
    with pico_sandbox.fault("accept-then-drop", times=1):
        with pytest.raises(InDoubtError):
            await pico.sms.send(TO, "Your code is 1234")

    assert pico_sandbox.otp_for(TO) == "1234"


async def test_a_hundred_do_not_wait_for_the_pace(pico, pico_sandbox):
    report = await pico.send_bulk(SmsMessage(to=f"861234567{number:04}", text="Hello") for number in range(100))

    assert report.accepted == 100 == len(pico_sandbox.messages)
    assert pico_sandbox.ledger.token_requests == 1


@pytest.fixture
async def shop(pico):
    yield pico.sms
    await pico.sms.send(TO, "The test is over, and the session is not")


async def test_it_outlives_what_was_built_on_it(shop, pico_sandbox):
    await shop.send(TO, "Hello")

    assert len(pico_sandbox.messages) == 1
"""


EACH_ITS_LOOP = "-oasyncio_default_fixture_loop_scope=function"
ALL_ONE_LOOP = ["-oasyncio_default_fixture_loop_scope=session", "-oasyncio_default_test_loop_scope=session"]


@pytest.mark.parametrize(
    ("before", "fixture", "options"),
    [
        ("pytestmark = pytest.mark.asyncio", "pytest_asyncio.fixture", ["--asyncio-mode=strict", EACH_ITS_LOOP]),
        ("", "pytest.fixture", ["--asyncio-mode=auto", EACH_ITS_LOOP]),
        ("", "pytest.fixture", ["--asyncio-mode=auto", *ALL_ONE_LOOP]),
        ("pytestmark = pytest.mark.anyio", "pytest.fixture", ["-pno:asyncio"]),
    ],
    ids=["pytest-asyncio, strict", "pytest-asyncio, auto", "pytest-asyncio, one loop", "anyio"],
)
def test_it_works_with_every_plugin_for_asyncio(
    pytester: pytest.Pytester, before: str, fixture: str, options: list[str]
) -> None:
    """With warnings as errors: nothing is left open, and no task is destroyed while it is pending."""
    tests = ASYNC_TESTS.replace("pytest.fixture", fixture)
    pytester.makepyfile(f"import pytest, pytest_asyncio\n{before}\n{tests}")
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'")

    ran = pytester.runpytest_subprocess("-Werror", *options)

    ran.assert_outcomes(passed=4)
