"""Real servers from pip alone: where one cannot run, its tests skip and say why; for the gate that is a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """
    Skip the test, or its fixture's tests, for the want of a server.

    With PICO_TEST_REQUIRE_SERVERS=1 it fails: a gate must not pass because nothing was tried.
    """
    if os.environ.get("PICO_TEST_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{reason} (PICO_TEST_REQUIRE_SERVERS=1 wants it to run)", pytrace=False)
    pytest.skip(reason)
