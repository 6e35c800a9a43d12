"""Embeds flipped and rotated versions of a store's images, to find flipped near-duplicates."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import islice, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.resize import Scaler
from embedkit.engines import open_engine, usable_cores
from embedkit.errors import DecodeError
from embedkit.extraction.batch_processor import in_order
from embedkit.extraction.source_images import policy_of
from embedkit.extraction.store_settings import backbone_of
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.engines import Engine
    from embedkit.store import EmbeddingStore

__all__ = ["embed_views", "view_names"]

_Turn = tuple[int, bool]  # quarters counter-clockwise, as numpy.rot90 counts, after mirroring


def view_names(*, flip: bool, rotate: bool) -> tuple[str, ...]:
    """The names of the views for flipped and rotated near-duplicates.

    Args:
        flip: Mirrored views.
        rotate: Views rotated by 90, 180 and 270 degrees.
    """
    return tuple(_turns(flip=flip, rotate=rotate))


def embed_views(
    store: EmbeddingStore,
    encoded: Callable[[str], bytes],
    folder: Path,
    *,
    flip: bool,
    rotate: bool,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
) -> dict[str, NDArray[np.floating]]:
    """Embeds flipped and rotated views of every image of a store, made after resize and crop.

    Args:
        store: The store, open.
        encoded: Returns an image's encoded bytes by id. If it raises `DecodeError`, the views of
            this image are rows of zeros, whose cosine with everything is 0.
        folder: Folder for the embeddings, ``2 * N * D`` bytes per view.
        flip: See ``view_names``.
        rotate: See ``view_names``.
        weights: Weights of the backbone: ``auto``, or the file that the store was embedded with.
        device: Device to embed on.

    Returns:
        View name to ``(N, D)`` float16 memory map.

    Raises:
        BackboneError: The backbone or its weights aren't available.
        StoreMismatchError: The weights differ from those of the store.
    """
    meta = store.meta
    turns = _turns(flip=flip, rotate=rotate)
    shape = len(store), meta.feature_dim
    views = {name: open_memmap(folder / f"{name}.npy", "w+", np.float16, shape) for name in turns}
    backbone = backbone_of(meta, weights)
    with ExitStack() as stack:
        loader = ImageLoader(
            policy_of(meta), backbone.preprocessing, meta.decode["decoder"],
            stack.enter_context(Scaler()),
        )  # fmt: skip
        engine = stack.enter_context(open_engine(backbone, device=device))
        rows = enumerate(store.ids)
        batches = iter(lambda: list(islice(rows, engine.batch_size)), [])
        embedded = in_order(
            lambda batch: _embed(batch, encoded, loader, engine, turns), batches, usable_cores()
        )
        stage = Stage("embedding flipped and rotated", len(store), unit="images")
        for batch, (kept, found) in stack.enter_context(closing(embedded)):
            for name, view in views.items():
                view[kept] = found[name]
            stage.update(batch[-1][0] + 1)
    return dict(views)


def _turns(*, flip: bool, rotate: bool) -> dict[str, _Turn]:
    mirrored = (False, True) if flip else (False,)
    quarters = range(4) if rotate else (0,)
    return {
        f"{'mirrored-' if mirror else ''}{90 * turns}": (turns, mirror)
        for mirror, turns in product(mirrored, quarters)
        if mirror or turns
    }


def _embed(
    batch: Sequence[tuple[int, str]],
    encoded: Callable[[str], bytes],
    load: ImageLoader,
    engine: Engine,
    turns: dict[str, _Turn],
) -> tuple[list[int], dict[str, NDArray[np.float32]]]:
    """The rows of a batch that could be embedded, and their views."""
    rows, images = list[int](), list["NDArray[np.uint8]"]()
    for row, name in batch:
        try:
            images.append(load(encoded(name), name).pixels)
        except DecodeError:  # moved or damaged since; its rows stay zeros
            continue
        rows.append(row)
    nothing = np.empty((0, engine.feature_dim), np.float32)
    found = {}
    for name, (quarters, mirror) in turns.items():
        seen = [np.rot90(image[:, ::-1] if mirror else image, quarters) for image in images]
        found[name] = engine.embed(np.stack(seen)) if seen else nothing
    return rows, found
