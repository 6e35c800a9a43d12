"""Work in one thread a core, where BLAS's own threads would wait for each other."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import threadpool_limits

from embedkit.ordering import in_order, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["in_single_threads"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_single_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Generator[tuple[_Item, _Result]]:
    """As ``in_order``, in as many threads as cores, with one of BLAS in each."""
    with (
        threadpool_limits(1, user_api="blas"),
        closing(in_order(function, items, usable_cores())) as done,
    ):
        yield from done
