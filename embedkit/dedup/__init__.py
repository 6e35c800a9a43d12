"""Finding images that are copies of each other: candidates, then groups."""

from embedkit.dedup.find import find_duplicates

__all__ = ["find_duplicates"]
