"""Count the statements that a block sends to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Yield a list that grows by each statement that a cursor of psycopg executes in this process."""
    statements: list[str] = []
    execute = psycopg.AsyncCursor.execute

    async def counted(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        statements.append(str(query))
        return await execute(self, query, *arguments, **options)

    psycopg.AsyncCursor.execute = counted  # type: ignore[assignment]
    try:
        yield statements
    finally:
        psycopg.AsyncCursor.execute = execute  # type: ignore[method-assign]
