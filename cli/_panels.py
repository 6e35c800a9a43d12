"""The sections of a command's help."""

from typing import Final

__all__ = [
    "BACKBONE",
    "INPUT",
    "OUTPUT",
    "PERFORMANCE",
    "PREPROCESSING",
    "SEARCH",
]

INPUT: Final = "Input"
BACKBONE: Final = "Backbone"
PREPROCESSING: Final = "Preprocessing"
SEARCH: Final = "Search"
PERFORMANCE: Final = "Performance"
OUTPUT: Final = "Output"
