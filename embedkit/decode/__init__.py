"""From encoded bytes to an RGB square."""
