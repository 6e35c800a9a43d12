"""Decoding: encoded bytes to a square RGB image."""
