"""Logging that fails changes nothing of what is logged about: by the package's loggers, and by httpcore's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pico_async._boundary import without_frames


@contextmanager
def harmless() -> Iterator[None]:
    """
    Run a user's listener or log handler, and drop what it raises: also a CancelledError that it raises itself.

    KeyboardInterrupt and SystemExit are raised: they end the process.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001, S110  a listener must not end the call that it listens to
        pass


class Logger(logging.LoggerAdapter[logging.Logger]):
    """
    A logger that never raises, whatever filters, handlers and record factories the application has set up.

    The standard library promises this for handlers alone, and only if they follow its conventions.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  the name is logging's
        """Return whether a record of this level would be handled."""
        with harmless():
            return super().isEnabledFor(level)
        return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """
        Log one record. All other methods call this one.

        The error of a record keeps the application's frames and none of the package's, because error reporters print
        the variables of each frame.
        """
        with harmless():
            if kwargs.get("exc_info") and (error := sys.exc_info()[1]) is not None:
                without_frames(error)
            # So the record names the caller's line and not this one.
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})


# httpcore logs each step of a request on its way, at DEBUG.
_LIBRARY_LOGGERS = tuple(
    f"{library}.{part}" for library in ("httpcore", "httpcore2") for part in ("connection", "http11", "proxy", "socks")
)
_is_ours: ContextVar[bool] = ContextVar("pico_async_is_ours", default=False)


class _Harmless(logging.Filter):
    """
    Hand the records of our own requests to the logger's other filters and to its handlers, and drop what they raise.

    The logger itself never does: it is told that the record is dropped. Records of other requests go their way.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the logger is to handle the record."""
        if not _is_ours.get():
            return True
        handled = _is_ours.set(False)
        try:
            with harmless():
                logging.getLogger(record.name).handle(record)
        finally:
            _is_ours.reset(handled)
        return False


_HARMLESS = _Harmless()


@contextmanager
def harmless_library() -> Iterator[None]:
    """
    Run code of httpcore's: what handles its records cannot break into it.

    It has no part in a record that cannot be made, by a factory of records that fails.
    """
    for name in _LIBRARY_LOGGERS:
        # Each time, for an application may have set up logging anew; and first, for another filter may raise.
        filters = logging.getLogger(name).filters
        if _HARMLESS not in filters:
            filters.insert(0, _HARMLESS)
    ours = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(ours)
