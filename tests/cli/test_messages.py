"""Errors of the library name Python keywords; the command line prints its own options."""

import ast
import re
from pathlib import Path

import pytest
import typer.main

from embedkit_cli import main
from embedkit_cli._messages import to_flags

ROOT = Path(main.__file__).resolve().parents[1] / "embedkit"
PACKAGES = (
    "backbones", "decode", "engines", "exporters", "extraction", "integrations", "sources",
    "store", "utils",
)  # fmt: skip
EXTRACT = typer.main.get_command(main.app).commands["extract"].params
SEARCH = typer.main.get_command(main.app).commands["search"].params


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("x.h5: overwrite=True replaces it", "x.h5: --overwrite replaces it"),
        ('use precision="fp32", or another', "use --precision fp32, or another"),
        ("use precision='fp32'", "use --precision fp32"),
        ("or pass weights=FILE", "or pass --weights FILE"),
        ("lower batch_size=64.", "lower --batch-size 64."),
        ("use processes=False (slower)", "use --threads (slower)"),
        ("use processes=True; or so", "use --processes; or so"),
        ("pass flip=False", "pass no --flip"),
        ("IVF16: nprobe=8, decoder = fast", "IVF16: nprobe=8, decoder = fast"),
        ("runs/seed=0/x.h5: no store", "runs/seed=0/x.h5: no store"),
        ("seed=0/dtype=a.b/x.h5: no store", "seed=0/dtype=a.b/x.h5: no store"),
        ("pooling.flip: False != True", "pooling.flip: False != True"),
    ],
)  # fmt: skip
def test_keywords_become_options_of_the_command(message, told):
    assert to_flags(message, EXTRACT) == told


def test_a_plural_keyword_is_the_repeatable_option():
    assert to_flags("a filter needs stores=FILE", SEARCH) == "a filter needs --store FILE"


def test_an_error_is_printed_with_options(embedkit, store, tmp_path):
    ended = embedkit("merge", store, "-o", store)
    assert (ended.code, ended.out) == (1, "")
    assert "--overwrite" in ended.err
    assert "overwrite=True" not in ended.err


@pytest.mark.parametrize("package", PACKAGES)
def test_the_library_names_no_option(package):
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and "embedkit export" not in text:
                assert not re.search(r"(?<![\w-])--[a-z]", text), (path, text)
