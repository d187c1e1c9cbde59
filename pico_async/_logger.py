"""The package's loggers: logging that fails changes nothing of what is logged about."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def harmless() -> Iterator[None]:
    """
    Run code of the user's that listens or logs, and drop what it raises: also a CancelledError, which is its own.

    KeyboardInterrupt and SystemExit go their way: they end the process, whatever it was doing.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001, S110  whoever listens must not end what it listens to
        pass


class Logger(logging.LoggerAdapter[logging.Logger]):
    """
    A logger that never raises, by whatever an application has set up: filters, handlers, a factory of records.

    Standard logging promises this for handlers alone, and only for those that keep to its conventions.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  the name is logging's
        """Return whether a record of that level would be handled."""
        with harmless():
            return super().isEnabledFor(level)
        return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log one record. All other methods come here."""
        with harmless():
            # The record names the line that logs, not this one.
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
