"""How a module is run in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["module_command", "module_environment"]


def module_command(module: str) -> list[str]:
    """The command that runs a module; see `module_environment`.

    ``python -m`` alone would import from the current folder first: who starts embedkit in a folder
    of downloaded files would run a ``numpy.py`` among them.
    """
    return [sys.executable, "-P", "-m", module]


def module_environment() -> dict[str, str]:
    """The environment in which it imports from the same places as this process."""
    own = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    places = [*own, *(str(Path(place or ".").absolute()) for place in sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
