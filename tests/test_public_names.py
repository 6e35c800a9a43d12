"""The public names: all of them in ``embedkit``, and each of them there."""

import ast
from pathlib import Path

import pytest

import embedkit

ROOT = Path(__file__).parents[1]


def test_the_public_names_are_sorted_and_few():
    names = [name for name in embedkit.__all__ if name != "__version__"]
    assert names == sorted(names, key=by_kind)
    assert len(names) <= 120
    assert dir(embedkit) == sorted(embedkit.__all__)


def by_kind(name):
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_every_name_of_the_package_can_be_had():
    for name in embedkit.__all__:
        assert getattr(embedkit, name) is not None


def test_type_checkers_see_what_is_there():
    tree = ast.parse((ROOT / "embedkit" / "__init__.py").read_text("utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("embedkit")
        for alias in node.names
    }
    assert imported == {*embedkit.__all__}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = embedkit.nothing_of_that_name
