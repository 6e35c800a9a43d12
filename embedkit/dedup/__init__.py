"""Finding images that are copies of each other, and deciding what becomes of them."""

from embedkit.dedup.applying import apply_plan, purge_journal, undo_journal
from embedkit.dedup.files import read_duplicates, write_duplicates
from embedkit.dedup.find import find_duplicates
from embedkit.dedup.grouping import group_pairs
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.dedup.plan import make_plan
from embedkit.dedup.plan_file import read_plan, write_plan
from embedkit.dedup.results import Duplicates, collect, rethreshold
from embedkit.dedup.search import find_pairs

__all__ = [
    "Duplicates",
    "Pairs",
    "PairsInfo",
    "apply_plan",
    "collect",
    "find_duplicates",
    "find_pairs",
    "group_pairs",
    "make_plan",
    "purge_journal",
    "read_duplicates",
    "read_plan",
    "rethreshold",
    "undo_journal",
    "write_duplicates",
    "write_plan",
]
