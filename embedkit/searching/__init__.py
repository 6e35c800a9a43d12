"""Searching with images, stores and ids; the results as data, tables, and a page to look at."""

from embedkit.searching.search import SearchOptions, join_results, open_search, search

__all__ = ["SearchOptions", "join_results", "open_search", "search"]
