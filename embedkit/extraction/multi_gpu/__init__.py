"""One run on several devices: a process for each, on shards of the same plan."""

from embedkit.extraction.multi_gpu.runner import MultiGpuRunner

__all__ = ["MultiGpuRunner"]
