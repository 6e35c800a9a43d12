"""Search with images, stores and ids; results as data, tables or an HTML page."""

from embedkit.retrieval.html_page import SearchPage
from embedkit.retrieval.results_file import SearchSummary, search_to_file
from embedkit.retrieval.results_schema import check_suffix
from embedkit.retrieval.search import SearchConfig, join_results, open_search, search

__all__ = [
    "SearchConfig",
    "SearchPage",
    "SearchSummary",
    "check_suffix",
    "join_results",
    "open_search",
    "search",
    "search_to_file",
]
