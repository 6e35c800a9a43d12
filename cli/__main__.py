"""``python -m embedkit_cli``."""

from .main import run

run()
