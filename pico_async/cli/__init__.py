"""
The `pico` command.

    pico demo
    pico blast people.csv --text "Your code is {{code}}"

Needs the extra: `pip install 'pico-async[cli]'`.
"""

from __future__ import annotations

import sys

from pico_async._version import __version__


def main() -> None:
    """Run `pico` with the arguments of this process, and exit."""
    if sys.argv[1:] == ["--version"]:
        # Scripts ask often, and the option of the same name is known only after half a second of imports.
        sys.stdout.write(f"pico_async {__version__}\n")
        return
    # Not at the top: without the extra, this function must still run to name the missing packages.
    try:
        import rich as _rich  # noqa: F401
        import typer as _typer  # noqa: F401
    except ImportError:
        sys.stderr.write("error: `pico` needs typer and rich: pip install 'pico-async[cli]'\n")
        raise SystemExit(1) from None
    # `import httpx` would load the command line of httpx, with rich and pygments. It does without.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from pico_async.cli.app import run

    run()
