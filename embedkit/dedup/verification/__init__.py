"""Geometric verification: whether one image's pixels map onto the other's."""
