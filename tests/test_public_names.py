"""What a module defines without an underscore is what it exports, and what it exports is there."""

import ast
from pathlib import Path

import pytest

import embedkit

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for part in ("embedkit", "cli") for path in (ROOT / part).rglob("*.py"))


def exported(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [element.value for element in node.value.elts]
    return None


def defined(tree):
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


def by_kind(name):
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_is_sorted_and_complete(path):
    tree = ast.parse(path.read_text("utf-8"))
    names = exported(tree)
    if path.name == "__init__.py" and names is None:
        assert not defined(tree)
        return
    if path.name == "__main__.py":
        return
    assert names is not None, "no __all__"
    assert names == sorted(names, key=by_kind)
    assert defined(tree) <= set(names)


def test_every_name_of_the_package_can_be_had():
    for name in embedkit.__all__:
        assert getattr(embedkit, name) is not None


def test_function_survives_the_import_of_its_module():
    import embedkit.extraction

    assert callable(embedkit.extract)
    assert embedkit.extract is embedkit.extraction.extract


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = embedkit.nothing_of_that_name
