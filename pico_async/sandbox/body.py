"""The bodies that the control routes take, and how they refuse one."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

LARGEST = 256 * 1024


class BodyError(Exception):
    """A body that is no JSON or too large; `status` says which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def read_json(request: Request) -> Any:
    """Read a body as JSON, and no more of it than is taken; raises `BodyError`."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise BodyError(f"the body is larger than {LARGEST} bytes.", 413)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BodyError("the body is no JSON.", 400) from None


def refuse(error: str, status: int = 400) -> Response:
    """Answer with one error, in the form that Pico's own errors have."""
    # In ASCII: an error may quote what it refuses, and half a surrogate pair is no UTF-8.
    return Response(json.dumps({"errors": [error]}), status, media_type="application/json")
