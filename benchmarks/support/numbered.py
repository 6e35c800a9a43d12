"""Images under one numbering, whatever their names: what pairs are told by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit import EmbeddingStore, extract
from embedkit.dedup import find_pairs
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring import pixel_model, thumbnail_model
from embedkit.dedup.scoring.calibration import PRECISION
from embedkit.extraction.source_images import OriginalImages
from support.rankings import SURE, Scored
from support.timing import cpu_timed

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def images_below(folder: Path) -> list[Path]:
    """All images below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)


def link(files: Sequence[Path], folder: Path) -> Path:
    """A new folder of links to the files, each named by its number."""
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / f"{number:07d}{file.suffix.lower()}").symlink_to(file.resolve())
    return folder


def embed(folder: Path, backbone: str) -> Path:
    """A store of such a folder, beside it."""
    extract(folder, folder.with_suffix(".h5"), backbone=backbone, labels="none")
    return folder.with_suffix(".h5")


def numbers_of(store: EmbeddingStore) -> NDArray[np.int64]:
    """The number of the image of each row, ``(N,)``."""
    return np.array([int(Path(name).stem) for name in store.ids], np.int64)


def search(folder: Path, against: Path | None = None, *, verify: bool) -> Scored:
    """The pairs that embedkit scores in an embedded folder, or between two, ids by number.

    The threshold is the one that it would choose, though pairs below it are given, too.
    """
    store = folder.with_suffix(".h5")
    other = None if against is None else against.with_suffix(".h5")
    with EmbeddingStore.open(store) as opened, EmbeddingStore.open(other or store) as known:
        numbers, theirs = numbers_of(opened), numbers_of(known)
        ids, other_ids = list(opened.ids), list(known.ids)
    with (
        OriginalImages.of_source(folder, ids) as pixels,
        OriginalImages.of_source(against or folder, other_ids) as other_pixels,
    ):
        found, cpu = cpu_timed(
            lambda: find_pairs(
                store, DedupConfig(threshold=0.0), against=other,
                verify=pixels if verify else None,
                verify_against=other_pixels if verify else None,
            )
        )  # fmt: skip
    threshold = (pixel_model if verify else thumbnail_model).threshold_for(PRECISION)
    pairs = np.column_stack([numbers[found.first], theirs[found.second]])
    return Scored(pairs, found.score.astype(np.float64), threshold, SURE, True, cpu)
