"""The demo's report: its results as the content of a gallery."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from embedkit.dedup.groups.explain import describe_pair
from embedkit.dedup.groups.grouping import nodes_of
from embedkit.report import (
    ClassifiedPicture,
    Gallery,
    GroupMember,
    Picture,
    SearchExample,
)
from embedkit.report.thumbnails import thumbnails
from embedkit.types import ImageFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from embedkit.dedup import Duplicates
    from embedkit.demo.run import DemoResult

__all__ = ["make_gallery"]

_MAX_SHOWN = 300  # images with their classes: some 5 kB each
_MAX_GROUPS = 100
_SIDE = 160  # pixels


def make_gallery(result: DemoResult) -> Gallery:
    """The report of a demo, with thumbnails from the demo's own images."""
    shown = list(result.classes.items())[:_MAX_SHOWN]
    groups = result.groups[:_MAX_GROUPS]
    searches = [[query, *(name for name, _ in found)] for query, found in result.searches.items()]
    ids = chain((name for name, _ in shown), chain.from_iterable((*searches, *groups)))
    album = _Album(result.images.folder, ids, result.report)
    return Gallery(
        title="embedkit demo",
        facts=_facts(result),
        images=[ClassifiedPicture(album.picture(name), _short(found)) for name, found in shown],
        images_left_out=len(result.classes) - len(shown),
        searches=[
            SearchExample(album.picture(query), [(album.picture(name), s) for name, s in found])
            for query, found in result.searches.items()
        ],
        groups=_groups(result.duplicates, groups, album),
        failures=[
            ImageFailure(album.name(failure.id), failure.reason, failure.nbytes)
            for failure in result.failures
        ],
        failures_note=_failures_note(result),
        summary=_summary(result),
    )


def _short(classes: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The first of each class's names: ``tench, Tinca tinca`` is a tench."""
    return [(name.split(",")[0], probability) for name, probability in classes]


class _Album:
    """Pictures of a folder's images."""

    def __init__(self, folder: Path, ids: Iterable[str], page: Path) -> None:
        self._folder = folder
        self._found = thumbnails(dict.fromkeys(ids), None, _SIDE, page=page)

    def name(self, image_id: str) -> str:
        """An id as people read it: the path below the folder."""
        return os.path.relpath(image_id, self._folder)

    def picture(self, image_id: str) -> Picture:
        found = self._found.get(image_id) or Picture(image_id)
        return replace(found, name=self.name(image_id))


def _summary(result: DemoResult) -> str:
    copies = result.found_copies.values()
    found, made = sum(found for found, _ in copies), sum(made for _, made in copies)
    return (
        f"{result.extraction.found:,} images: searched, compared and classified; "
        f"{found:,} of {made:,} edited copies were found again"
    )


def _facts(result: DemoResult) -> list[tuple[str, str]]:
    done, copies = result.extraction, result.found_copies.items()
    seconds = f"{done.seconds:.1f} s, {done.images_per_second:.1f} images/s"
    return [
        ("Images", f"{done.found:,} found, {done.embedded:,} embedded, {done.failed:,} failed"),
        ("Backbone", result.backbone),
        ("Licence of the weights", result.licence),
        ("Time to embed", seconds if done.seconds else "embedded by an earlier run"),
        (
            "Edited copies found again",
            "; ".join(f"{edit}: {found} of {made}" for edit, (found, made) in copies) or "-",
        ),
    ]


def _groups(
    duplicates: Duplicates, groups: Sequence[Sequence[str]], album: _Album
) -> list[list[GroupMember]]:
    nearest = _nearest(duplicates)
    return [
        [
            GroupMember(album.picture(name), score, album.name(other), reason)
            for name in group
            for score, other, reason in [nearest[name]]
        ]
        for group in groups
    ]


def _nearest(duplicates: Duplicates) -> dict[str, tuple[float, str, str]]:
    """For each image with a copy: score, id and reason of the highest-scoring one."""
    pairs, ids = duplicates.pairs, duplicates.images.ids
    best: dict[str, tuple[float, str, int]] = {}
    for number, (a, b) in enumerate(nodes_of(pairs)[1].tolist()):
        score = float(pairs.score[number])
        for name, other in ((ids[a], ids[b]), (ids[b], ids[a])):
            if name not in best or score > best[name][0]:
                best[name] = score, other, number
    return {
        name: (score, other, describe_pair(pairs, number))
        for name, (score, other, number) in best.items()
    }


def _failures_note(result: DemoResult) -> str:
    if result.images.damaged is None:
        return ""
    return "One file was damaged on purpose, to show a failure."
