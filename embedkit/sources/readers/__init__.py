"""The encoded bytes of one image, wherever it lies."""
