"""One run on several devices: a process for each, on shards of the same plan."""

from embedkit.fleet.run import Fleet

__all__ = ["Fleet"]
