"""A tour of embedkit on a few photographs: embed, search, classify, find copies, report."""

from embedkit.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
