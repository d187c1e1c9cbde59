"""The pytest plugin works in separate projects, each of which is run by pytest in its own process."""

from __future__ import annotations

import pytest

from pico_async._engine import live

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the project with the plugins of its environment, except two that load slowly."""
    # In the order of the file: some of these tests count the requests of those before them.
    return pytester.runpytest_subprocess("-pno:hypothesispytest", "-pno:valkey", "-pno:randomly", *options)


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

from pico_async import InDoubtError, RateLimitError

TO = "+86 123-4567-8901"


def test_asyncio_run_in_a_plain_test(pico, pico_sandbox):
    asyncio.run(pico.sms.send(TO, "Your code is 4711"))

    assert pico_sandbox.otp_for(TO) == "4711"


def test_one_session_in_several_loops(pico, pico_sandbox):
    asyncio.run(pico.sms.send(TO, "One"))
    asyncio.run(pico.sms.send(TO, "Two"))

    assert [message.text for message in pico_sandbox.messages] == ["One", "Two"]


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
    """A project that uses no fixture loads only the plugin with its guard, the package's names and its version."""
    pytester.makepyfile("def test_that_needs_none(): pass")
    pytester.makeconftest("""
        import sys

        def pytest_unconfigure():
            print("loaded:", *sorted(name for name in sys.modules if name.split(".")[0] in
                ("pico_async", "httpx", "attrs", "cattrs", "starlette", "uvicorn", "aiolimiter")))
    """)

    ran = run(pytester, "-pno:asyncio")

    ran.assert_outcomes(passed=1)
    loaded = "pico_async pico_async._engine pico_async._engine.live pico_async._version pico_async.pytest_plugin"
    ran.stdout.fnmatch_lines([f"loaded: {loaded}"])


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


# --- tests send nothing ---------------------------------------------------------------------------

NETWORK = """
import asyncio

import httpx
import pytest

from pico_async import AiohttpTransport, ConfigurationError, PicoSession, SmsMessage
from pico_async.sandbox import Sandbox

TO = "8612345678901"


class Network(httpx.AsyncBaseTransport):
    # It stands for a network: nothing says that it stays in the process.
    requests = 0

    async def handle_async_request(self, request):
        Network.requests += 1
        return httpx.Response(200, json={"token": "t", "request_id": "r-1", "balance": "1", "username": "u"})


def session(**settings):
    return PicoSession(**{"transport": Network()} | settings)


def send(pico):
    return asyncio.run(pico.sms.send(TO, "Hello")).request_id
"""
REFUSED = """
by_module = session()


@pytest.fixture(scope="session")
def by_fixture():
    return session()


@pytest.fixture(scope="session")
def at_once():
    with pytest.raises(ConfigurationError, match="pico_live"):
        send(session())


def use(pico, how):
    async def open_and_use():
        async with pico:
            return await how(pico)

    with pytest.raises(ConfigurationError, match="pico_live") as refused:
        asyncio.run(open_and_use())
    assert refused.value.outcome == "not_sent"
    assert Network.requests == 0


@pytest.mark.parametrize("how", [
    lambda pico: pico.sms.send(TO, "Hello"),
    lambda pico: pico.mms.send(TO, "https://example.com/a.jpg"),
    lambda pico: pico.voice.send(TO, "Hello"),
    lambda pico: pico.send(SmsMessage(TO, "Hello")),
    lambda pico: pico.send_bulk([SmsMessage(TO, "Hello")]),
    lambda pico: pico.balance.get(),
    lambda pico: pico.token.get(),
    lambda pico: pico.campaigns.list(),
])
def test_no_call_leaves(how):
    use(session(), how)


@pytest.mark.parametrize("settings", [
    # Nobody has these names (RFC 2606): where the guard fails, nothing reaches Pico.
    {"base_url": "https://pico.example", "transport": None},
    {"base_url": "https://pico.example", "transport": "aiohttp"},
    {"base_url": "https://pico.example", "transport": httpx.AsyncHTTPTransport()},
    {"base_url": "https://api.picotw.com"},
    {"base_url": "https://127.0.0.1.example"},
])
def test_no_session_sends(settings):
    if settings.get("transport") == "aiohttp":
        settings = {**settings, "transport": AiohttpTransport()}
    use(session(**settings), lambda pico: pico.sms.send(TO, "Hello"))


def test_that_of_a_module_sends_nothing():
    use(by_module, lambda pico: pico.sms.send(TO, "Hello"))


def test_that_of_a_fixture_sends_nothing(by_fixture, at_once):
    use(by_fixture, lambda pico: pico.sms.send(TO, "Hello"))


def test_one_that_is_only_opened_is_let_alone():
    async def open_it():
        async with session():
            pass

    asyncio.run(open_it())


def test_a_fixture_of_the_plugin_sends_to_the_sandbox(pico, pico_sandbox):
    send(pico)
    assert len(pico_sandbox.messages) == 1


def answer(request):
    return httpx.Response(200, json={"token": "t", "request_id": "r-1"})


class Mine(httpx.MockTransport, httpx.AsyncBaseTransport):
    pass


class OfMyOwn(Network):
    in_process = True


@pytest.mark.parametrize("transport", [httpx.MockTransport(answer), Mine(answer), Sandbox(api_key="k").transport()])
def test_a_transport_that_stays_in_the_process_is_used(transport):
    assert send(session(transport=transport, username="user333", api_key="k"))


def test_a_transport_that_says_so_is_used():
    assert send(session(transport=OfMyOwn())) == "r-1"


def test_a_sandbox_on_a_socket_is_used():
    async def talk():
        sandbox = Sandbox()
        async with sandbox.serve() as base_url:
            settings = {"username": sandbox.username, "api_key": sandbox.api_key, "base_url": base_url}
            async with session(**settings, transport=None) as pico:
                await pico.sms.send(TO, "Hello")

    asyncio.run(talk())
"""
LIVE = """
shared = session()


@pytest.fixture(scope="module")
def sent():
    return send(session())


@pytest.mark.pico_live
def test_marked(sent):
    assert sent == send(session()) == "r-1"
    assert Network.requests == 4  # a token and a message, by two sessions


def test_not_marked(sent):
    with pytest.raises(ConfigurationError, match="pico_live"):
        send(session())
    assert Network.requests == 4


@pytest.mark.pico_live
class TestAll:
    def test_marked_by_its_class(self):
        assert send(session()) == "r-1"


def test_a_session_that_a_marked_test_opened():
    async def use(pico):
        return (await pico.sms.send(TO, "Hello")).request_id

    with pytest.raises(ConfigurationError, match="pico_live"):
        asyncio.run(use(shared))
"""


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set real-looking credentials in the environment of the test run."""
    for name in ("PICO_USERNAME", "PICO_API_KEY", "PICO_SENDER"):
        monkeypatch.setenv(name, "user333")


@pytest.mark.usefixtures("credentials")
def test_only_a_test_that_is_marked_sends_for_real(pytester: pytest.Pytester) -> None:
    """
    No session of a test process reaches a network, wherever it was made and whichever call it makes.

    A loopback host, the sandbox, and a transport that stays in the process are used as ever. A test that is marked
    `pico_live` sends for real, with its fixtures; the next test does not.
    """
    pytester.makepyfile(test_refused=NETWORK + REFUSED, test_live=NETWORK + LIVE)

    ran = run(pytester, "-Werror", "--strict-markers", "-pno:asyncio", "-pno:anyio")

    ran.assert_outcomes(passed=22 + 4)


ATTEMPTS = (
    NETWORK
    + """
def attempt(when):
    try:
        print(when, send(session()))
    except ConfigurationError as error:
        print(when, "pico_live" in str(error), Network.requests)


def pytest_sessionstart():
    attempt("start:")


def pytest_sessionfinish(session):
    attempt("finish:")
    print("markers:", *(line.partition(":")[0] for line in session.config.getini("markers") if "pico" in line))
"""
)


@pytest.mark.usefixtures("credentials")
def test_nothing_is_sent_outside_of_the_tests(pytester: pytest.Pytester) -> None:
    """A session is refused while tests are collected and in hooks."""
    pytester.makeconftest(ATTEMPTS)
    pytester.makepyfile("from conftest import attempt\nattempt('collection:')\ndef test_nothing(): pass")

    ran = run(pytester, "-s", "-pno:asyncio")

    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(
        ["start: True 0", "*collection: True 0*", "*finish: True 0*", "markers: pico(* pico_sandbox(* pico_live"]
    )


@pytest.mark.usefixtures("credentials")
def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    """With `-p no:pico_async`, neither the plugin's fixtures nor its markers exist, and a session sends for real."""
    pytester.makeconftest(ATTEMPTS)
    pytester.makepyfile("def test_with_one(pico): pass")

    ran = run(pytester, "-s", "-pno:asyncio", "-pno:pico_async")

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["start: r-1", "*finish: r-1", "markers:", "*fixture 'pico' not found*"])


def test_a_run_within_a_run_leaves_the_guard_in_force(pytester: pytest.Pytester) -> None:
    """After a run of pytest inside a test, the guard of the outer run is the same as before."""
    before = live.refusal
    pytester.makepyfile("def test_nothing(): pass")

    ran = pytester.inline_run("-pno:asyncio", "-pno:hypothesispytest", "-pno:valkey")

    assert ran.ret == 0
    assert live.refusal is before


DJANGO = """
import django, pytest
from django.conf import settings
from django.http import JsonResponse
from django.urls import path
from pico_async import PicoSession

pico = PicoSession()  # for the life of the process, as a module-level name


async def code(request):
    accepted = await pico.sms.send(request.GET["to"], "Your code is 4711")
    return JsonResponse(accepted.to_dict())


urlpatterns = [path("code", code)]


@pytest.fixture(autouse=True)
def _installed(pico_sandbox):
    pico_sandbox.install()


@pytest.mark.parametrize("_", range(2))
def test_a_view(client, pico_sandbox, _):
    assert client.get("/code", {"to": "8612345678901"}).status_code == 200
    assert client.get("/code", {"to": "8612345678901"}).status_code == 200
    assert len(pico_sandbox.sent_to("8612345678901")) == 2
    assert pico_sandbox.otp_for("8612345678901") == "4711"


async def test_an_asynchronous_client(async_client, pico_sandbox):
    reply = await async_client.get("/code", {"to": "8612345678901"})

    assert reply.json()["request_id"] == pico_sandbox.messages[0].request_id
"""


def test_django_views_are_tested_by_pytest_django(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A Django view sends through a session that its module keeps: `install()` serves the test clients of pytest-django,
    in each test and in each event loop.
    """
    for name, value in {"PICO_USERNAME": "shop", "PICO_API_KEY": "a-real-key", "PICO_SENDER": "SHOP"}.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile(test_views=DJANGO)
    pytester.makepyfile(
        settings="SECRET_KEY = 'x'\nROOT_URLCONF = 'test_views'\nALLOWED_HOSTS = ['*']\nMIDDLEWARE = []\n"
    )

    ran = run(pytester, "-pdjango", "--ds=settings", "--asyncio-mode=auto", EACH_ITS_LOOP, "-opythonpath=.")

    ran.assert_outcomes(passed=3)
