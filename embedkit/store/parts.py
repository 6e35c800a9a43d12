"""The stores of the parts of one plan: whether all are there, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.sources.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.store.store import EmbeddingStore

__all__ = ["in_order_of_parts", "part_of", "refuse_missing"]


def part_of(store: EmbeddingStore) -> Part | None:
    """Which part of its plan a store holds; None if it holds all."""
    part = store.meta.part
    return Part(part["number"], part["of"]) if part else None


def in_order_of_parts(stores: Sequence[EmbeddingStore]) -> list[EmbeddingStore]:
    """The stores in the order of their parts, if they are parts; else as they are.

    Raises:
        StoreError: A part is missing, is there twice, or belongs to another plan.
    """
    if not any(store.meta.part for store in stores):
        return list(stores)
    first = next(store for store in stores if store.meta.part)
    by_part: dict[Part, EmbeddingStore] = {}
    for store in stores:
        part = part_of(store)
        if part is None:
            raise StoreError(
                f"{store.path}: is no part, as {first.path} is; merge the parts alone first"
            )
        _refuse_other_plan(first, store)
        if part in by_part:
            raise StoreError(f"{store.path}: holds part {part}, as {by_part[part].path} does")
        by_part[part] = store
    images, shard_rows = first.meta.part["images"], first.meta.part["shard_rows"]
    num_shards = -(-images // shard_rows)
    there = {shard for part in by_part for shard in part.shards(num_shards)}
    refuse_missing({*range(num_shards)} - there, num_shards, first.meta.part["of"])
    return [by_part[part] for part in sorted(by_part)]


def refuse_missing(shards: set[int], num_shards: int, of: int) -> None:
    """Refuses an incomplete set of parts.

    Args:
        shards: The numbers of the shards that aren't there.
        num_shards: How many shards the plan has.
        of: How many parts it was cut into.

    Raises:
        StoreError: There is such a shard.
    """
    if shards:
        parts = ", ".join(map(str, Part.of_shards(shards, num_shards, of)))
        raise StoreError(
            f"{len(shards)} of {num_shards} shards are missing, of the parts {parts}: run these "
            "parts to their end, and give the stores of all parts"
        )


def _refuse_other_plan(first: EmbeddingStore, store: EmbeddingStore) -> None:
    mine, other = first.meta, store.meta
    named = {"number": 0}
    if mine.plan_hash != other.plan_hash or {**mine.part, **named} != {**other.part, **named}:
        raise StoreError(
            f"{store.path}: is a part of another plan than {first.path}; extract all parts from "
            "the same images, with the same number of parts and shard_rows"
        )
