"""Loggers that never raise: logging that fails must not change what it logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from pico_async._boundary import without_frames


class harmless:  # noqa: N801  used as a function, like contextlib.suppress
    """
    Run a user's listener or log handler, and drop what it raises: also a CancelledError that it raises itself.

    KeyboardInterrupt and SystemExit are raised: they end the process.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and not issubclass(kind, KeyboardInterrupt | SystemExit)


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

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Keep the `extra` of the call, which an adapter would replace by its own."""
        return msg, kwargs

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

    def log_text(self, level: int, text: str, file: str, **extra: object) -> None:
        """
        Log a text, without the search for the line that logs it, which takes as long as the rest.

        The record has the *extra* as attributes.
        """
        with harmless():
            name = self.logger.name
            self.logger.handle(self.logger.makeRecord(name, level, file, 0, "%s", (text,), None, extra=extra))
