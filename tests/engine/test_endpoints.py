"""These tests compare the endpoint table with the reference and check that path arguments are safe."""

import attrs
import pytest
from hypothesis import given, strategies as st

from pico_async._engine.endpoints import (
    DELETE_TEMPLATE,
    GET_BALANCE,
    GET_TOKEN,
    SEND_SMS,
    UPDATE_CAMPAIGN,
    Endpoint,
    Request,
)
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.errors import InvalidMessageError
from tests.support.endpoints import ENDPOINTS
from tests.support.reference.requests import EXAMPLE, EXAMPLES, Example

BY_SECTION = {endpoint.section: endpoint for endpoint in ENDPOINTS}


def test_the_table_has_the_references_thirteen_operations() -> None:
    """The table lists the thirteen operations of the reference, each once and in the same order."""
    assert [endpoint.section for endpoint in ENDPOINTS] == [example.section for example in EXAMPLES]
    assert len(ENDPOINTS) == 13


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.section)
def test_an_operation_goes_where_the_references_example_goes(example: Example) -> None:
    """The method and the path of each endpoint are those of the cURL line in the reference."""
    endpoint = BY_SECTION[example.section]

    assert endpoint.method == example.method
    assert endpoint.path_with(**example.filled) == example.path
    assert (endpoint.path == example.path) == (not example.filled)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.section)
def test_only_the_three_sends_send(endpoint: Endpoint) -> None:
    """`sends` is true only for the SMS, MMS and voice endpoints."""
    assert endpoint.sends == (endpoint.path in ("/sms", "/mms", "/voice"))


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.section)
def test_what_creates_is_not_repeatable(endpoint: Endpoint) -> None:
    """A GET, PUT or DELETE is repeatable. A POST is not, because a repeat may be carried out twice."""
    assert endpoint.repeatable == (endpoint.method in ("GET", "PUT", "DELETE"))
    assert not (endpoint.sends and endpoint.repeatable)


def test_each_documented_limit_has_a_rate_group_of_its_own() -> None:
    """
    The token, balance, SMS, MMS and voice endpoints each have their own rate group.

    All other endpoints share `management`.
    """
    rate_groups = {endpoint.section: str(endpoint.rate_group) for endpoint in ENDPOINTS}

    others = {section: rate_group for section, rate_group in rate_groups.items() if rate_group != "management"}
    assert others == {
        "Retrieve JWT Token": "token",
        "Get Account Balance": "balance",
        "Send an SMS": "sms",
        "Send an MMS": "mms",
        "Send Voice TTS": "voice",
    }


def test_each_rate_group_has_a_rate() -> None:
    """`Rates` has one field for each rate group, and `jitter_allowance_s` is its only other field."""
    assert {str(rate_group) for rate_group in RateGroup} == {attribute.name for attribute in attrs.fields(Rates)} - {
        "jitter_allowance_s"
    }


@pytest.mark.parametrize(
    ("part", "quoted"),
    [
        ("user333", "user333"),
        ("campaign-123", "campaign-123"),
        ("9ca38439-732f-4c88-87c7-0b3eda19dfca", "9ca38439-732f-4c88-87c7-0b3eda19dfca"),
        ("anna@example.com", "anna%40example.com"),
        ("anna+pico", "anna%2Bpico"),
        ("a.b_c~d-e", "a.b_c~d-e"),
        ("..a", "..a"),
        ("0", "0"),
        ("x" * 128, "x" * 128),
    ],
)
def test_a_part_is_quoted_into_the_path(part: str, quoted: str) -> None:
    """Characters that are not safe in a path are percent-encoded, and all others stay unchanged."""
    assert GET_BALANCE.path_with(username=part) == f"/balance/{quoted}"


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="dot"),
        pytest.param("..", id="dot dot"),
        pytest.param("...", id="only dots"),
        pytest.param("-", id="only a dash"),
        pytest.param("/", id="slash"),
        pytest.param("../token/other", id="up and over"),
        pytest.param("a/b", id="slash inside"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("a?b=c", id="query"),
        pytest.param("a#b", id="fragment"),
        pytest.param("a;b", id="semicolon"),
        pytest.param("a:b", id="colon"),
        pytest.param("%2e%2e", id="escaped dots"),
        pytest.param("a%2fb", id="escaped slash"),
        pytest.param("{username}", id="braces"),
        pytest.param("a b", id="space"),
        pytest.param("user333\n", id="line break at the end"),
        pytest.param("a\r\nX-Evil: 1", id="header injection"),
        pytest.param("a\x00", id="null character"),
        pytest.param("a\x7f", id="delete character"),
        pytest.param("\u7528\u6237", id="non-ASCII letters"),
        pytest.param("user\uff13", id="full-width digit"),
        pytest.param("\ud800", id="half of a surrogate pair"),
        pytest.param("x" * 129, id="over-long"),
        pytest.param(None, id="None"),
        pytest.param(333, id="int"),
        pytest.param(b"user333", id="bytes"),
    ],
)
@pytest.mark.parametrize("endpoint", [GET_TOKEN, UPDATE_CAMPAIGN, DELETE_TEMPLATE], ids=lambda e: e.section)
def test_a_part_that_could_leave_its_place_is_refused(endpoint: Endpoint, part: object) -> None:
    """
    A path argument that could reach another operation, or that is no ID, is refused.

    The error names the argument and does not contain its value.
    """
    (name,) = EXAMPLE[endpoint.section].filled

    with pytest.raises(InvalidMessageError, match=f"^`{name}` cannot stand in a path") as caught:
        endpoint.path_with(**{name: part})

    assert not isinstance(part, str) or len(part) < 3 or part not in str(caught.value)


@given(st.text())
def test_no_part_can_reach_another_operation(part: str) -> None:
    """Each accepted path argument becomes one path segment of safe characters that no HTTP client normalises away."""
    try:
        path = GET_BALANCE.path_with(username=part)
    except InvalidMessageError:
        return

    assert path.startswith("/balance/")
    segment = path.removeprefix("/balance/")
    assert segment.strip(".")
    assert set(segment) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")
    assert segment.replace("%40", "").replace("%2B", "").count("%") == 0


def test_a_request_is_called_by_its_method_and_its_template() -> None:
    """
    The string of a request is its method and path template.

    Each error message begins with it, so it shows no username or ID.
    """
    request = Request(GET_BALANCE, GET_BALANCE.path_with(username="user333"))

    assert str(request) == "GET /balance/{username}"


def test_a_requests_repr_does_not_show_its_body() -> None:
    """The repr of a request does not show the body, which contains the text and the number."""
    request = Request(SEND_SMS, "/sms", body={"to": "8612345678901", "text": "Your code is 1234"})

    assert "86123" not in repr(request)
    assert "code" not in repr(request)
