"""NumPy's scalars as arguments of the public functions and classes."""

import inspect
import re
from dataclasses import dataclass

import numpy as np
import pytest

import embedkit
from embedkit.utils.arguments import plain_numbers


@plain_numbers
def kinds(count: "int", share: "float | None" = None, *rest, **more) -> list:
    return [type(value) for value in (count, share, *rest, *more.values())]


@plain_numbers
@dataclass(frozen=True, slots=True)
class Config:
    size: "int"
    text: str = ""


def test_numpys_scalars_become_pythons():
    found = kinds(np.int64(1), np.float32(0.5), np.str_("a"), flag=np.bool_(True))
    assert found == [int, float, str, bool]
    assert kinds(np.uint8(3), share=np.int16(2)) == [int, int]
    assert type(Config(np.int32(7)).size) is int


def test_numbers_in_lists_and_dictionaries_become_pythons_and_arrays_stay():
    @plain_numbers
    def same(*values):
        return values

    array, ids = np.arange(3), ["a", "b"]
    numbers, table, kept, names = same((np.int64(1), 2), {"a": np.float64(0.5)}, array, ids)
    assert [type(one) for one in (*numbers, table["a"])] == [int, int, float]
    assert kept is array
    assert names is ids


@pytest.mark.parametrize("count", ["3", 3.0, np.float64(3), True, [3]])
def test_what_is_no_integer_is_refused_by_name(count):
    with pytest.raises(ValueError, match="count must be an integer, not "):
        kinds(count)
    with pytest.raises(ValueError, match="size must be an integer, not "):
        Config(size=count)


def test_what_is_no_number_is_refused_by_name():
    with pytest.raises(ValueError, match="share must be a number, not 'half'"):
        kinds(1, share="half")
    assert kinds(1, share=None) == [int, type(None)]


def public_callables():
    for name in embedkit.__all__:
        value = getattr(embedkit, name)
        if inspect.isfunction(value):
            yield name, value
    for owner in (embedkit.Index, embedkit.EmbeddingStore):
        for name in (name for name in dir(owner) if not name.startswith("_")):
            value = getattr(owner, name)
            if inspect.isfunction(value) or inspect.ismethod(value):
                yield f"{owner.__name__}.{name}", value
    for config in (embedkit.IndexSpec, embedkit.DecodePolicy, embedkit.Preprocessing):
        yield config.__name__, config.__init__


INTERNAL = {"EmbeddingStore.locate", "EmbeddingStore.shard"}  # plain indexing, which takes both


@pytest.mark.parametrize(("name", "called"), [*public_callables()])
def test_every_public_function_with_numbers_takes_numpys(name, called):
    parameters = [str(one.annotation) for one in inspect.signature(called).parameters.values()]
    if re.search(r"\b(int|float)\b", " ".join(parameters)) and name not in INTERNAL:
        assert hasattr(called, "__wrapped__")


def test_numpys_scalars_from_end_to_end(tmp_path):
    from stores import write_store

    store = write_store(
        tmp_path / "s.h5", np.random.default_rng(0).normal(size=(20, 8)).astype("f4")
    )
    three, index = np.int64(3), tmp_path / "s.index"
    spec = embedkit.IndexSpec(recall=np.float32(0.9), whiten=three, seed=three)
    embedkit.Index.build(store, index, spec, overwrite=np.bool_(False))
    assert embedkit.search(index, store, k=three).neighbors.scores.shape == (20, 3)
    for name in ("a.csv", "a.parquet"):
        embedkit.search_to_file(index, store, tmp_path / name, k=three)
    with embedkit.Index.open(index) as opened:
        assert opened.search(np.ones((1, 8), np.float32), k=three).scores.shape == (1, 3)
    embedkit.find_outliers(store, k=three, top=np.int32(2))
