"""Runs tasks on a Ray cluster: workers that stay open, deaths that are counted, orderly ends."""
