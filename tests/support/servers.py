"""
This module skips the tests of a real server that cannot run here.

Each skip states its reason. In the gate, the tests fail instead.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """
    Skip the test, or the tests of the fixture, because a server is missing.

    With PICO_TEST_REQUIRE_SERVERS=1 the test fails: a gate must not pass because nothing was tried.
    """
    if os.environ.get("PICO_TEST_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{reason} (PICO_TEST_REQUIRE_SERVERS=1 wants it to run)", pytrace=False)
    pytest.skip(reason)
