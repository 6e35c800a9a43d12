"""The working directory, which may have been deleted."""

from pathlib import Path

__all__ = ["working_directory"]


def working_directory() -> Path | None:
    """The working directory; None where it has been deleted, so that no relative path exists."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
