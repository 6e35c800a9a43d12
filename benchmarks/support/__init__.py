"""What the benchmarks share: the machine's facts, timing, tables, sets of photos, agreement."""
