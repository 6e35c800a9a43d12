"""Finds near-duplicate images, groups them, and plans and applies their removal."""

from embedkit.dedup.api import find_duplicates
from embedkit.dedup.cleanup.apply import apply_plan, purge_journal, undo_journal
from embedkit.dedup.cleanup.plan import make_plan
from embedkit.dedup.cleanup.plan_csv import read_plan, write_plan
from embedkit.dedup.find_pairs import find_pairs
from embedkit.dedup.groups.grouping import group_pairs
from embedkit.dedup.output.folder import read_duplicates, write_duplicates
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.dedup.results import Duplicates, collect, rethreshold
from embedkit.dedup.scoring.calibration import Calibration, default_calibration
from embedkit.dedup.update import update_duplicates

__all__ = [
    "Calibration",
    "Duplicates",
    "Pairs",
    "PairsInfo",
    "apply_plan",
    "collect",
    "default_calibration",
    "find_duplicates",
    "find_pairs",
    "group_pairs",
    "make_plan",
    "purge_journal",
    "read_duplicates",
    "read_plan",
    "rethreshold",
    "undo_journal",
    "update_duplicates",
    "write_duplicates",
    "write_plan",
]
