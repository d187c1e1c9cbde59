"""The table of operations against the reference, and paths that nothing can break out of."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_async._engine.endpoints import (
    DELETE_TEMPLATE,
    ENDPOINTS,
    GET_BALANCE,
    GET_TOKEN,
    SEND_SMS,
    UPDATE_CAMPAIGN,
    Endpoint,
    Lane,
    Request,
)
from pico_async.coordination.rates import Rates
from pico_async.errors import InvalidMessageError
from tests.support.reference.requests import EXAMPLE, EXAMPLES, Example

BY_SECTION = {endpoint.section: endpoint for endpoint in ENDPOINTS}


def test_the_table_has_the_references_thirteen_operations() -> None:
    """Each once, in the reference's order."""
    assert [endpoint.section for endpoint in ENDPOINTS] == [example.section for example in EXAMPLES]
    assert len(ENDPOINTS) == 13


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.section)
def test_an_operation_goes_where_the_references_example_goes(example: Example) -> None:
    """Method and path, filled in as in the cURL line, are those of the section."""
    endpoint = BY_SECTION[example.section]

    assert endpoint.method == example.method
    assert endpoint.path_with(**example.filled) == example.path
    assert (endpoint.path == example.path) == (not example.filled)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.section)
def test_only_the_three_sends_send(endpoint: Endpoint) -> None:
    """What sends needs a `request_id` and is not repeated in doubt."""
    assert endpoint.sends == (endpoint.path in ("/sms", "/mms", "/voice"))


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.section)
def test_what_creates_is_not_repeatable(endpoint: Endpoint) -> None:
    """A POST may be carried out twice; a GET, PUT or DELETE does no harm twice."""
    assert endpoint.repeatable == (endpoint.method in ("GET", "PUT", "DELETE"))
    assert not (endpoint.sends and endpoint.repeatable)


def test_each_documented_limit_has_a_lane_of_its_own() -> None:
    """Thirty texts a second, one token and one balance: nothing else uses them up."""
    lanes = {endpoint.section: str(endpoint.lane) for endpoint in ENDPOINTS}

    others = {section: lane for section, lane in lanes.items() if lane != "management"}
    assert others == {
        "Retrieve JWT Token": "token",
        "Get Account Balance": "balance",
        "Send an SMS": "sms",
        "Send an MMS": "mms",
        "Send Voice TTS": "voice",
    }


def test_each_lane_has_a_rate() -> None:
    """`Rates` has a field for each lane, and beside the guard none that no lane uses."""
    assert {str(lane) for lane in Lane} == {attribute.name for attribute in attrs.fields(Rates)} - {"guard_s"}


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
    """What means something in a path is escaped; what does not, is not."""
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
    """One that could reach another operation, or is no ID at all, is named, and its value is not repeated."""
    (name,) = EXAMPLE[endpoint.section].filled

    with pytest.raises(InvalidMessageError, match=f"^`{name}` cannot stand in a path") as caught:
        endpoint.path_with(**{name: part})

    assert not isinstance(part, str) or len(part) < 3 or part not in str(caught.value)


@given(st.text())
def test_no_part_can_reach_another_operation(part: str) -> None:
    """Whatever passes is one segment of safe characters, and not one that a client would normalise away."""
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
    """This opens every error message, so neither the username nor an ID stands in it."""
    request = Request(GET_BALANCE, GET_BALANCE.path_with(username="user333"))

    assert str(request) == "GET /balance/{username}"


def test_a_requests_repr_does_not_show_its_body() -> None:
    """The body holds the text and the number."""
    request = Request(SEND_SMS, "/sms", body={"to": "8612345678901", "text": "Your code is 1234"})

    assert "86123" not in repr(request)
    assert "code" not in repr(request)
