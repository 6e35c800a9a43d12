"""Extraction: embeds the images of a source into a store."""
