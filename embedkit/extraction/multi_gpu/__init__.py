"""Multi-GPU runs: one process per device, each embeds its own shards of the plan."""

from embedkit.extraction.multi_gpu.runner import MultiGpuRunner

__all__ = ["MultiGpuRunner"]
