"""Bytes from local files and URLs."""
