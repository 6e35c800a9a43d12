"""Helpers that every subpackage may import."""
