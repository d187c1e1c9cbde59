"""
This module starts processes by a fork of one process that has imported the package.

A process that Python starts imports the package for half a second. A forked one begins at once, and is as much a
process of its own.
"""

from __future__ import annotations

import multiprocessing

forked = multiprocessing.get_context("forkserver")
# All that the processes of the tests import. The fork server is one for all of them, so the list is one, too.
forked.set_forkserver_preload(
    [
        "anyio._backends._asyncio",
        "httpcore",
        "pico_async.bulk.sender",
        "pico_async.bulk.journal.sqlite_writer",
        "tests.stories.crashing_bulk_send",
        "tests.support.fleet_worker",
        "tests.support.queue_worker",
    ]
)
