"""Calibrates scores on edited copies of the user's own images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from embedkit.decode.exact import decode_image
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.scoring.edits import EDITS, make_copy
from embedkit.dedup.scoring.fit import fit_calibration
from embedkit.dedup.scoring.training_pairs import EditedCopies
from embedkit.engines import usable_cores
from embedkit.errors import DecodeError, EmbedkitError
from embedkit.extraction.embed_like_store import embed_likewise
from embedkit.extraction.source_images import OriginalImages, hashes_of, policy_of
from embedkit.store import EmbeddingStore
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import Stage, reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.decode.policy import DecodePolicy
    from embedkit.dedup.scoring.fit import CalibrationReport
    from embedkit.utils.progress import ProgressCallback

__all__ = ["calibrate"]

_FEWEST = 4


@plain_numbers
def calibrate(
    store: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    originals: int = 150,
    precision: float = 0.99,
    seed: int = 0,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
    progress: bool | ProgressCallback = False,
) -> CalibrationReport:
    """Makes edited copies of some images, and fits models that separate them from other images.

    Of each image one copy of every kind of edit is made (``dedup.scoring.edits``), embedded as the
    store was, and compared with every image of the store, or with 20,000 of a larger one. Images
    that the store holds twice, by their perceptual hash or their pixels, don't count as a mistake.
    What the report says of a threshold was measured on images that the models hadn't seen: each
    half of the images by models of the other half.

    Args:
        store: A store file or folder.
        images: The source that it was embedded from.
        originals: How many of its images copies are made of.
        precision: What the thresholds are chosen for.
        seed: Draws the images and the edits.
        weights: Of the backbone: ``auto``, or the file that the store was made with.
        device: That the copies are embedded on.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        The calibration, and what was measured on the way.

    Raises:
        StoreError: The store can't be read.
        SourceError: The source can't be listed, or has none of the store's images.
        BackboneError: The backbone or its weights can't be had.
        StoreMismatchError: The weights here aren't those of the store.
        MissingExtraError: OpenCV isn't installed.
        EmbedkitError: Fewer than four images can be edited.
        ValueError: An argument is out of its range.
    """
    if originals < _FEWEST or not 0 < precision <= 1:
        raise ValueError(
            f"originals must be at least {_FEWEST} and precision above 0 and at most 1, not "
            f"{originals} and {precision}"
        )
    require_extra("cv2", "verify", "a calibration, which verifies pairs on pixels,")
    with (
        reporting(progress),
        EmbeddingStore.open(store) as opened,
        tempfile.TemporaryDirectory() as folder,
    ):
        policy = policy_of(opened.meta)
        ids = list(opened.ids)
        with OriginalImages.of_source(images, ids, policy, hashes_of(opened)) as pixels:
            files = Path(folder) / "copies"
            made = _make_copies(files, ids, pixels, originals, seed)
            copies = Path(folder) / "copies.h5"
            embed_likewise(opened.meta, files, copies, weights=weights, device=device)
            with EmbeddingStore.open(copies) as edited:
                rows, kinds = zip(*(made[Path(name).name] for name in edited.ids), strict=True)
                return fit_calibration(
                    DedupInput(opened), EditedCopies(DedupInput(edited), np.array(rows), kinds),
                    _either(files, policy, pixels), precision=precision, seed=seed,
                    threads=usable_cores(),
                )  # fmt: skip


def _make_copies(
    folder: Path,
    ids: Sequence[str],
    pixels: OriginalImages,
    originals: int,
    seed: int,
) -> dict[str, tuple[int, str]]:
    """Writes the copies; gives each file's name, the row that it was made of, and the kind.

    Raises:
        EmbedkitError: Fewer than four images can be had.
    """
    folder.mkdir()
    made: dict[str, tuple[int, str]] = {}
    used, most = 0, min(originals, len(ids))
    stage = Stage("making copies", most, unit="images")
    for row in np.random.default_rng(seed).permutation(len(ids)).tolist():
        if used == most:
            break
        try:
            image = Image.fromarray(pixels(ids[row]))
        except DecodeError:  # moved or damaged since; there are others
            continue
        for kind in EDITS:
            name = f"{row}-{kind}.jpg"
            (folder / name).write_bytes(make_copy(image, kind, seed + row))
            made[name] = row, kind
        used += 1
        stage.add()
    if used < _FEWEST:
        raise EmbedkitError(f"only {used} of the store's images can be read, {_FEWEST} are needed")
    return made


def _either(
    folder: Path, policy: DecodePolicy, pixels: OriginalImages
) -> Callable[[str], NDArray[np.uint8]]:
    """Pixels of the copies in a folder, and of the images."""

    def load(name: str) -> NDArray[np.uint8]:
        if Path(name).parent != folder:
            return pixels(name)
        return np.asarray(decode_image(Path(name).read_bytes(), name, policy).image)

    return load
