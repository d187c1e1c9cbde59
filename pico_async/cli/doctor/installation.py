"""Check Python and the installed packages against the versions that pico_async needs."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from attrs import frozen

from pico_async import __version__
from pico_async.cli.doctor.finding import Finding, State, ok, warning

_DISTRIBUTION = "pico-async"
_NAMED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;\s*(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"](\w+)['\"]")
_BOUND = re.compile(r"(>=|<)\s*([0-9.]+)")
# Packages of the other extras are checked if they are installed; these extras are for developers.
_FOR_DEVELOPERS = frozenset({"test", "dev", "bench"})


def check_python() -> Finding:
    found = platform.python_version()
    message = f"Python {found} on {platform.system()}, pico_async {__version__}"
    return ok("python", message, python=found, system=platform.system(), pico_async=__version__)


@frozen
class _Requirement:
    name: str
    bounds: tuple[tuple[str, str], ...]
    is_required: bool

    def fits(self, found: str) -> bool:
        return all((_release(found) >= _release(to)) == (bound == ">=") for bound, to in self.bounds)

    def __str__(self) -> str:
        return f"{self.name}{','.join(f'{bound}{to}' for bound, to in self.bounds)}"


def check_packages() -> Finding:
    """Check that the required packages are installed, in versions that fit."""
    try:
        needed = list(_needed(requires(_DISTRIBUTION) or []))
    except PackageNotFoundError:
        return warning(
            "packages",
            "pico_async was not installed by a package manager, so its requirements are unknown.",
            f"Install it: pip install {_DISTRIBUTION}",
        )
    found = {package.name: _version(package.name) for package in needed}
    missing = [package for package in needed if package.is_required and found[package.name] is None]
    unfit = [package for package in needed if not package.fits(found[package.name] or "") and found[package.name]]
    wanted = sorted({str(package) for package in [*missing, *unfit]})
    faults = [f"{package.name} is missing" for package in missing]
    faults += sorted({f"{package.name} is {found[package.name]}" for package in unfit})
    installed = {name: it for name, it in found.items() if it is not None}
    return Finding(
        check="packages",
        state=State.FAILED if missing else State.WARNING if unfit else State.OK,
        message=f"{', '.join(faults)}." if faults else ", ".join(f"{name} {it}" for name, it in installed.items()),
        advice=f"Install the tested versions: pip install {' '.join(map(repr, wanted))}" if wanted else None,
        facts={"installed": installed, "wanted": wanted},
    )


def _needed(lines: list[str]) -> Iterator[_Requirement]:
    for line in lines:
        if named := _NAMED.match(line):
            name, bounds, condition = named.groups()
            extra = _EXTRA.search(condition or "")
            if name != _DISTRIBUTION and (extra is None or extra[1] not in _FOR_DEVELOPERS):
                yield _Requirement(name, tuple(sorted(_BOUND.findall(bounds), reverse=True)), is_required=not condition)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, to compare; the rest of it does not matter here."""
    leading = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(number) for number in leading[0].split(".")] if leading else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
