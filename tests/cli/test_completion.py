"""What the shell offers after ``embedkit … <TAB>``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedkit_cli._completion import complete_backbone, completing

ROOT = Path(__file__).parents[2]


def offered(words):
    """The lines that bash gets for a command line whose last word is being typed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_EMBEDKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-m", "embedkit"]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("embedkit ext", ["extract"]),
        ("embedkit extract --backbone resnet18", ["resnet18_ssl", "resnet18_swsl"]),
        ("embedkit classify -b efficientnet", ["efficientnet_lite0"]),
        ("embedkit dedup plan --keep old", ["oldest"]),
        ("embedkit extract --interpolation bi", ["bilinear", "bicubic"]),
        ("embedkit index build --factory Fl", ["Flat"]),
    ],
)
def test_values_are_offered(words, expected):
    assert offered(words) == expected


def test_timms_names_are_offered_after_the_prefix():
    assert "timm:" in complete_backbone("ti")
    assert "timm:resnet50.a1_in1k" in complete_backbone("timm:resnet50.a1")
    assert not any(name.startswith("timm:r") for name in complete_backbone(""))


def test_values_by_their_beginning():
    assert completing("center", "squash")("s") == ["squash"]
