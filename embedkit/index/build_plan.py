"""The plan of an index build, frozen when the build begins."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.index.auto_select import choose
from embedkit.index.autotune import needs_tuning
from embedkit.index.faiss_types import least_rows, make_index
from embedkit.index.manifest import StoreEntry
from embedkit.index.spec import IndexSpec
from embedkit.store.object_cache import address_of
from embedkit.utils.urls import object_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import faiss
    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows

__all__ = ["Plan", "held_out", "held_out_last", "make_plan", "store_entries"]

_HELD = 512
_LEAST_HELD = 128
_TRUTH_WORK = 2e12  # multiplications that finding the held-out queries' neighbours may take


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a build.

    Attributes:
        spec: The requested settings.
        factory: The faiss factory string.
        rerank: Whether candidates are reranked.
        on_disk: Whether the inverted lists stay on disk.
        stores: The stores to index.
        count: N rows.
        held: How many of the last positions are held out as tuning queries before they are added.
        generation: 0, or the generation that compacting makes.
    """

    spec: IndexSpec
    factory: str
    rerank: bool
    on_disk: bool
    stores: tuple[StoreEntry, ...]
    count: int
    held: int
    generation: int = 0

    def to_config(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; two equal plans have equal ones."""
        return {**asdict(self), "stores": [asdict(entry) for entry in self.stores]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Plan:
        """Reads what ``to_config`` wrote."""
        stores = tuple(StoreEntry(**entry) for entry in config["stores"])
        return cls(**{**config, "spec": IndexSpec.from_config(config["spec"]), "stores": stores})


def make_plan(spec: IndexSpec, rows: StoreRows, output: Path) -> Plan:
    """Makes the plan: which index to build from which rows.

    Raises:
        ValueError: The settings can't be met.
    """
    count = len(rows)
    lists = max(map(int, re.findall(r"IVF(\d{1,18})", spec.factory)), default=0)
    if lists > count:  # before faiss takes memory for them
        raise _too_few(spec.factory, count, lists)
    choice = choose(spec, count, rows.dim)
    index = make_index(choice.factory, spec.whiten or rows.dim, spec.metric)
    held = held_out(index, count, rows.dim, rerank=choice.rerank)
    if count - held < (needed := least_rows(index)):
        raise _too_few(choice.factory, count, needed + held)
    entries = store_entries(rows, output)
    return Plan(spec, choice.factory, choice.rerank, choice.on_disk, entries, count, held)


def held_out(index: faiss.Index, count: int, rows_dim: int, *, rerank: bool) -> int:
    """How many of ``count`` rows of ``rows_dim`` values an index is tuned with; 0 if it isn't."""
    if not needs_tuning(index, rerank=rerank):
        return 0
    affordable = int(_TRUTH_WORK / (max(count, 1) * rows_dim))
    return min(_HELD, count // 8, max(_LEAST_HELD, affordable))


def _too_few(factory: str, count: int, needed: int) -> ValueError:
    return ValueError(
        f"{factory} can't be built of {count} rows: it needs at least {needed}; choose a smaller "
        "index (factory=Flat compares all rows)"
    )


def store_entries(rows: StoreRows, output: Path) -> tuple[StoreEntry, ...]:
    """The manifest entries of the stores of an index at ``output``."""
    entries = []
    for store in rows.stores:
        url, path = address_of(store.path), store.path.absolute()
        places = (url, url) if url else (str(path), _from_folder_of(output, path))
        entries.append(StoreEntry(*places, store.fingerprint, len(store)))
    return tuple(entries)


def _from_folder_of(output: Path, path: Path) -> str:
    """Where a local store is from the folder of its index; beside it, if that is at a URL."""
    if object_url(output) is not None:
        return path.name
    return os.path.relpath(path, output.absolute().parent)


def held_out_last(count: int, held: int, seed: int) -> NDArray[np.int64]:
    """All rows in order, but for ``held`` random ones, which come last."""
    chosen = np.sort(np.random.default_rng(seed).choice(count, held, replace=False))
    return np.concatenate([np.delete(np.arange(count), chosen), chosen])
