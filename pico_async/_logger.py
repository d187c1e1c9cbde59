"""The package's loggers. Logging that fails changes nothing in the code that logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
        """Log one record. All other methods call this one."""
        with harmless():
            # So the record names the caller's line and not this one.
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
