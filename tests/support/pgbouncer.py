"""This module runs a real PgBouncer, which shares a few connections of PostgreSQL among its clients."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.servers import unavailable
from tests.support.waiting import PATIENCE_S

PORT = 6432


@contextmanager
def pgbouncer(conninfo: str, *, connections: int = 4) -> Iterator[str]:
    """
    Run a pooler in front of a database, and yield the conninfo of the pooler; skip the test where it is not installed.

    After each transaction the pooler takes a client's connection of PostgreSQL away, and gives it to any other client.

    Args:
        connections: How many connections of PostgreSQL all clients share.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        unavailable("pgbouncer is not installed here (Debian's package `pgbouncer`)")
    server = conninfo_to_dict(conninfo)
    # Short, because the path of a Unix socket may have at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pico-pgb-"))
    # The pooler refuses to run as root.
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    behind = " ".join(
        f"{name}={server[name]}" for name in ("host", "port", "dbname", "user", "password") if name in server
    )
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\npooled = {behind}\n[pgbouncer]\npool_mode = transaction\ndefault_pool_size = {connections}\n"
        f"max_client_conn = 200\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {folder}\nauth_type = any\n"
    )
    settings.chmod(0o644)
    process = subprocess.Popen([program, "-q", settings], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who)
    try:
        pooled = make_conninfo(host=str(folder), port=PORT, user=server["user"], dbname="pooled")
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(pooled).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, "PgBouncer ended at its start"
                assert time.monotonic() < give_up_at, f"PgBouncer did not answer within {PATIENCE_S:g} s"
                time.sleep(0.02)  # PgBouncer does not report when its socket is ready
        yield pooled
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
