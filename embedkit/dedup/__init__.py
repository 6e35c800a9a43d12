"""Finding images that are copies of each other: candidates, scores, then groups."""

from embedkit.dedup.calibration import Calibration, default_calibration
from embedkit.dedup.find import find_duplicates
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.dedup.search import find_pairs

__all__ = [
    "Calibration",
    "Pairs",
    "PairsInfo",
    "default_calibration",
    "find_duplicates",
    "find_pairs",
]
