"""The README's blocks: each is run by a test."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.support.sandbox_process import KEY

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
# A block that is a file says so in its first line, and is run with the others of its recipe.
FILES = {code[2:].partition(":")[0]: code for language, code in BLOCKS if re.match(r"# \w+\.py:", code)}
PYTHON = [code for language, code in BLOCKS if language == "python" and code not in FILES.values()]
SHELL = [code for language, code in BLOCKS if language == "sh"]

# The files that belong together; a test calls `write_recipe` for each line.
RECIPES = {
    "tests": ("test_codes.py",),
    "fastapi": ("app.py",),
    "aiohttp": ("web_app.py",),
    "shop": ("shop.py", "worker.py"),
    "bots": ("bot_aiogram.py", "bot_ptb.py"),
}


def write_recipe(recipe: str, directory: Path) -> None:
    """Put the recipe's files into *directory*, as they stand."""
    for name in RECIPES[recipe]:
        (directory / name).write_text(FILES[name])


def environment(base_url: str, **more: str) -> dict[str, str]:
    """Make what the blocks find in their environment."""
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
