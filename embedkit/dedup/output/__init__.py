"""The output of a search on disk: tables, a summary, an HTML report."""
