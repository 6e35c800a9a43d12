"""Readers: give the encoded bytes of one image, from any kind of source."""
