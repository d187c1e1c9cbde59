"""This module holds the README's code blocks, each of which a test runs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.support.sandbox_process import KEY

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
# A block that is a file has the file's name in its first line, and is run with the other files of its recipe.
FILES = {code[2:].partition(":")[0]: code for language, code in BLOCKS if re.match(r"# \w+\.py:", code)}
PYTHON = [code for language, code in BLOCKS if language == "python" and code not in FILES.values()]
SHELL = [code for language, code in BLOCKS if language == "sh"]

# The files that belong together; a test calls `write_recipe` for each line.
RECIPES = {
    "tests": ("test_codes.py",),
    "fastapi": ("app.py", "test_app.py"),
    "aiohttp": ("web_app.py",),
    "django": ("views.py",),
    "flask": ("flask_app.py",),
    "celery": ("tasks.py",),
    "shop": ("shop.py", "worker.py"),
    "bots": ("bot_aiogram.py", "bot_ptb.py"),
}


def write_recipe(recipe: str, directory: Path) -> None:
    """Write the recipe's files into *directory*, unchanged."""
    for name in RECIPES[recipe]:
        (directory / name).write_text(FILES[name])


def environment(base_url: str, **more: str) -> dict[str, str]:
    """Return the environment in which the README's blocks run."""
    return (
        os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PICO_USERNAME": "user333",
            "PICO_API_KEY": KEY,
            "PICO_SENDER": "8612345678888",
            "PICO_BASE_URL": base_url,
        }
        | more
    )
