"""Reads JSON bodies of the control routes, and writes error replies to them."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

MOST_BYTES = 256 * 1024


class BodyError(Exception):
    """The body is not JSON or too large; `status` is the HTTP status of the reply."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status: int = status


async def read_json(request: Request) -> Any:
    """Return a body parsed as JSON; raise `BodyError` as soon as it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise BodyError(f"the body is larger than {MOST_BYTES} bytes.", 413)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BodyError("the body is not JSON.", 400) from None


def refuse(error: str, status: int = 400) -> Response:
    """Return a reply with one error, in the form of Pico's own errors."""
    # In ASCII, because an error may quote an unpaired surrogate, which cannot be encoded as UTF-8.
    return Response(json.dumps({"errors": [error]}), status, media_type="application/json")
