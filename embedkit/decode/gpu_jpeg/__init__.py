"""Decodes ordinary JPEGs by the JPEG engines of an NVIDIA GPU, to the bits of the CPU's decoder."""
