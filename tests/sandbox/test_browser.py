"""The browser that the outbox is tried in: where there is none, the tests say so."""

import pytest

from tests.sandbox.browser import chromium_path


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_chromium_a_test_skips_and_says_why(nowhere, monkeypatch) -> None:
    """With what to install."""
    monkeypatch.delenv("PICO_TEST_REQUIRE_SERVERS", raising=False)

    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium_path()


def test_for_the_gate_that_is_a_failure(nowhere, monkeypatch) -> None:
    """It must not pass because nothing was tried."""
    monkeypatch.setenv("PICO_TEST_REQUIRE_SERVERS", "1")

    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium_path()
