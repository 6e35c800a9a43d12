"""Analyses of a store: classification, selection, outliers, maps."""
