"""
This module records every write and sync of SQLite, and builds the files that a power cut leaves on the disk.

A disk keeps what was synced. Of what was written after a file's last sync, the disk may keep any whole sectors, in any
order. SQLite writes through a VFS of this module, which records each operation and passes it to the system's VFS.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SECTOR = 512
OK = 0

# `sqlite3_vfs` and `sqlite3_io_methods` of SQLite 3, as words; the first ones hold two ints each. Their order is part
# of SQLite's interface: https://www.sqlite.org/c3ref/vfs.html and https://www.sqlite.org/c3ref/io_methods.html
VFS_WORDS, VFS_NAME, VFS_OPEN, VFS_DELETE = 21, 3, 5, 6
IO_WORDS, IO_CLOSE, IO_WRITE, IO_TRUNCATE, IO_SYNC = 19, 1, 3, 4, 5

Words = ctypes.POINTER(ctypes.c_void_p)
OpenCall = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)
DeleteCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
CloseCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
WriteCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
TruncateCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
SyncCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class Operation(NamedTuple):
    """One event: a "write", "truncate", "sync" or "delete" of a file, or a "mark" that the test sets."""

    kind: str
    file: str = ""
    offset: int = 0
    data: bytes = b""
    mark: Any = None


class Recorder:
    """The recorded events, in order."""

    def __init__(self) -> None:
        self.log: list[Operation] = []
        self._lock = threading.Lock()

    def note(self, operation: Operation) -> None:
        """Record one event."""
        with self._lock:
            self.log.append(operation)

    def mark(self, mark: Any) -> None:
        """Record an event that only the test knows, in the same order."""
        self.note(Operation("mark", mark=mark))

    def syncs(self) -> list[int]:
        """Return the indexes of the syncs in the log."""
        return [place for place, operation in enumerate(self.log) if operation.kind == "sync"]

    def marks_before(self, cut: int) -> list[Any]:
        """Return the marks that the test set before the cut."""
        return [operation.mark for operation in self.log[:cut] if operation.kind == "mark"]

    def image(self, cut: int, torn: random.Random | None = None) -> dict[str, bytes]:
        """
        Return the files as the disk has them after a power cut before the operation at *cut*.

        Args:
            torn: Keep also random sectors of what was not synced; None: keep none.
        """
        files: dict[str, list[Operation]] = {}
        for operation in self.log[:cut]:
            if operation.kind == "delete":
                files.pop(operation.file, None)
            elif operation.kind != "mark":
                files.setdefault(operation.file, []).append(operation)
        image = {}
        for name, operations in files.items():
            synced = max((place for place, each in enumerate(operations) if each.kind == "sync"), default=-1)
            if synced < 0 and torn is None:
                continue  # the folder may not even have the file's name
            content = bytearray()
            for operation in operations[:synced]:
                _apply(content, operation)
            if torn is not None:
                unsynced = [part for each in operations[synced + 1 :] for part in _sectors(each)]
                for part in torn.sample(unsynced, torn.randint(0, len(unsynced))):
                    _apply(content, part)
            image[name] = bytes(content)
        return image


def _apply(content: bytearray, operation: Operation) -> None:
    if operation.kind == "write":
        content.extend(bytes(max(0, operation.offset - len(content))))
        content[operation.offset : operation.offset + len(operation.data)] = operation.data
    elif operation.kind == "truncate":
        del content[operation.offset :]


def _sectors(operation: Operation) -> Iterator[Operation]:
    if operation.kind != "write":
        yield operation
        return
    start, end = operation.offset, operation.offset + len(operation.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        data = operation.data[start - operation.offset : stop - operation.offset]
        yield operation._replace(offset=start, data=data)
        start = stop


def lay_down(image: dict[str, bytes], folder: Path) -> None:
    """Write the files of an image into a folder."""
    for name, content in image.items():
        (folder / name).write_bytes(content)


@contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """Record what SQLite does to the files in a folder, over all connections that are opened in the context."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    library.sqlite3_vfs_register.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.sqlite3_vfs_unregister.argtypes = [ctypes.c_void_p]
    recorder = Recorder()
    names: dict[int, str] = {}
    alive: list[Any] = []  # ctypes frees a callback without a reference, and SQLite would call freed memory
    system = library.sqlite3_vfs_find(None)
    original = ctypes.cast(system, Words)

    def name_of(path: bytes | None) -> str | None:
        place = Path(path.decode()) if path else None
        return place.name if place is not None and place.parent == folder.resolve() else None

    def open_file(_: int, path: int | None, file: int, flags: int, out: int) -> int:
        # The pointer itself is passed on, because SQLite keeps it while the file is open.
        code: int = open_original(system, path, file, flags, out)
        name = name_of(ctypes.string_at(path) if path else None)
        if code == OK and name is not None:
            names[file] = name
            methods = ctypes.cast(file, ctypes.POINTER(Words))
            methods[0] = ctypes.cast(watched(methods[0]), Words)
        return code

    def delete_file(_: int, path: bytes, sync_folder: int) -> int:
        code: int = delete_original(system, path, sync_folder)
        if code == OK and (name := name_of(path)) is not None:
            recorder.note(Operation("delete", name))
        return code

    def watched(methods: Any) -> Any:
        words = (ctypes.c_void_p * IO_WORDS)(*(methods[word] for word in range(IO_WORDS)))
        close_original = CloseCall(methods[IO_CLOSE])
        write_original = WriteCall(methods[IO_WRITE])
        truncate_original = TruncateCall(methods[IO_TRUNCATE])
        sync_original = SyncCall(methods[IO_SYNC])

        def close(file: int) -> int:
            names.pop(file, None)
            return close_original(file)  # type: ignore[no-any-return]

        def write(file: int, data: int, size: int, offset: int) -> int:
            recorder.note(Operation("write", names[file], offset, ctypes.string_at(data, size)))
            return write_original(file, data, size, offset)  # type: ignore[no-any-return]

        def truncate(file: int, size: int) -> int:
            recorder.note(Operation("truncate", names[file], size))
            return truncate_original(file, size)  # type: ignore[no-any-return]

        def sync(file: int, flags: int) -> int:
            code: int = sync_original(file, flags)
            if code == OK:
                recorder.note(Operation("sync", names[file]))
            return code

        calls = (CloseCall(close), WriteCall(write), TruncateCall(truncate), SyncCall(sync))
        for word, call in zip((IO_CLOSE, IO_WRITE, IO_TRUNCATE, IO_SYNC), calls, strict=True):
            words[word] = ctypes.cast(call, ctypes.c_void_p).value
        alive.extend((words, *calls))
        return words

    open_original, delete_original = OpenCall(original[VFS_OPEN]), DeleteCall(original[VFS_DELETE])
    ours = (ctypes.c_void_p * VFS_WORDS)(*(original[word] for word in range(VFS_WORDS)))
    name = ctypes.create_string_buffer(b"recording")
    opening, deleting = OpenCall(open_file), DeleteCall(delete_file)
    ours[VFS_NAME] = ctypes.addressof(name)
    ours[VFS_OPEN] = ctypes.cast(opening, ctypes.c_void_p).value
    ours[VFS_DELETE] = ctypes.cast(deleting, ctypes.c_void_p).value
    assert library.sqlite3_vfs_register(ctypes.addressof(ours), 1) == OK
    try:
        yield recorder
    finally:
        assert library.sqlite3_vfs_unregister(ctypes.addressof(ours)) == OK
        assert not names, "a connection outlived the recording"
