"""What a search leaves on disk: tables, a summary, a page."""
