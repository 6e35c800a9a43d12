"""Searching with images, stores and ids; the results as data, tables, and a page to look at."""

from embedkit.searching.files import SearchSummary, search_to_file
from embedkit.searching.page import SearchPage
from embedkit.searching.search import SearchOptions, join_results, open_search, search
from embedkit.searching.tables import check_suffix

__all__ = [
    "SearchOptions",
    "SearchPage",
    "SearchSummary",
    "check_suffix",
    "join_results",
    "open_search",
    "search",
    "search_to_file",
]
