"""``report.html`` of what was found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.cleanup.choose import KeepSelection, candidate_of, members_of
from embedkit.dedup.cleanup.keep_policy import KeepPolicy
from embedkit.dedup.pairs import SAME_SCENE
from embedkit.errors import SourceError
from embedkit.report import Picture
from embedkit.report.duplicates_page import CopyFigure, CopyGroup, CopyPage, LeakTable, write_copies
from embedkit.report.gallery_data import facts_line
from embedkit.report.thumbnails import thumbnails, thumbnails_if_found

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from embedkit.dedup.cleanup.choose import Decision
    from embedkit.dedup.leakage import StoreLeaks
    from embedkit.dedup.results import Duplicates

__all__ = ["REPORT", "write_page"]

REPORT = "report.html"

_SIDE = 144  # pixels of a thumbnail
_MAX_PICTURE_BYTES = 24 * 2**20
_MAX_FIGURES = 40_000
_MAX_MEMBERS = 12
_MAX_CLASSES = 200


def write_page(
    found: Duplicates,
    path: Path,
    root: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    *,
    lies_in: Path | None = None,
) -> SourceError | None:
    """Writes the report: the least sure groups first, thumbnails as far as they fit.

    Args:
        found: What was found.
        path: The file.
        root: The folder that relative ids are below; None takes the one that the store remembers.
        images: The sources that the images are of, where these lie now. None:
            ids are taken for paths.
        lies_in: The folder that the page will lie in, which its links start from; None is the one
            of ``path``.

    Returns:
        Why ``images`` has no pictures for the page; None if it has some, or isn't given.

    Raises:
        EmbedkitError: The file can't be written.
    """
    selection = KeepSelection(found, KeepPolicy("best-quality"))
    groups = members_of(found)
    order = np.argsort(found.groups.weakest, kind="stable").tolist()
    shown: list[tuple[int, list[Decision]]] = []
    figures = 0
    for number in order:
        if figures >= _MAX_FIGURES:
            break
        decisions = selection.choose(
            [(image, candidate_of(found, image)) for image in groups[number]]
        )
        shown.append((number, decisions))
        figures += min(len(decisions), _MAX_MEMBERS)
    members = [v.image for _, decisions in shown for v in decisions[:_MAX_MEMBERS]]
    page_path = (lies_in or path.parent) / path.name
    pictures, missing = _pictures(found, list(dict.fromkeys(members)), root, images, page_path)
    cards = [_card(found, number, decisions, pictures) for number, decisions in shown]
    page = CopyPage(
        title=_title(found),
        facts=_facts(found),
        notes=list(_notes(found, len(shown), len(pictures), len(set(members)))),
        groups=cards,
        leaks=_leak_tables(found),
        summary=_summary(found),
        empty=None if len(found.pairs) else ("No near-duplicates found", _searched(found)),
    )
    write_copies(path, page)
    return missing


def _title(found: Duplicates) -> str:
    if found.against is None:
        return f"Near-duplicates in {found.store.path}"
    return f"Images of {found.store.path} that are in {found.against.path} too"


def _summary(found: Duplicates) -> str:
    if not len(found.pairs):
        return ""
    grouped = int((found.groups.group >= 0).sum())
    groups = f"{len(found.groups):,} group{'s' if len(found.groups) != 1 else ''}"
    if found.leaks is not None:
        store, against = found.leaks.store, found.leaks.against
        return (
            f"{store.leaking:,} of the {store.images:,} images have near-duplicates among "
            f"{against.leaking:,} of the other {against.images:,}, in {groups}"
        )
    if found.linkage == "pairs":
        return f"{len(found.pairs):,} pairs among {found.store.rows:,} images"
    return (
        f"{groups} of {grouped:,} images, among {found.store.rows:,}; "
        f"{found.surplus():,} could be removed"
    )


def _searched(found: Duplicates) -> str:
    """What was searched, in a sentence."""
    info, rows = found.pairs.info, found.store.rows
    what = f"all pairs of the {rows:,} images of {found.store.path}"
    if found.against is not None:
        against = found.against
        what = (
            f"each of the {rows:,} images of {found.store.path} with the {against.rows:,} of "
            f"{against.path}"
        )
    return (
        f"Compared {what} ({info.mode} search): no pair has a score of {info.threshold:.4g} or "
        f"more (calibration: {info.calibration})."
    )


def _pictures(
    found: Duplicates,
    members: Sequence[int],
    root: str | os.PathLike[str] | None,
    images: Sequence[str | os.PathLike[str]],
    page: Path,
) -> tuple[dict[int, Picture], SourceError | None]:
    """Pictures by image, and why ``images`` has none.

    Those of each store by themselves: both may have the same ids.
    """
    own, out = found.is_of_store(), dict[int, Picture]()
    missing: SourceError | None = None
    sides = [[image for image in members if own[image] == side] for side in (True, False)]
    for side in filter(None, sides):
        named = {found.images.ids[image]: image for image in side}
        hashes = {name: found.images.content_hash[i].tobytes() for name, i in named.items()}
        store = found.store if own[side[0]] or found.against is None else found.against
        make = thumbnails if images else thumbnails_if_found
        try:
            made = make(
                named, None, _SIDE, images=images, roots=store.folders(root), hashes=hashes,
                max_bytes=_MAX_PICTURE_BYTES * len(side) // len(members), page=page,
            )  # fmt: skip
        except SourceError as exc:
            missing = exc
        else:
            out |= {named[name]: picture for name, picture in made.items()}
    return out, missing


def _card(
    found: Duplicates, number: int, decisions: Sequence[Decision], pictures: dict[int, Picture]
) -> CopyGroup:
    groups = found.groups
    there, possible = int(groups.found[number]), int(groups.possible[number])
    note = f"{len(decisions):,} images"
    if there < possible:
        note += f"; {there:,} of their {possible:,} pairs are copies, the others only through them"
    return CopyGroup(
        f"Group {number}",
        float(groups.weakest[number]),
        note,
        [
            _figure(found, decision, pictures, is_first=place == 0)
            for place, decision in enumerate(decisions[:_MAX_MEMBERS])
        ],
        max(len(decisions) - _MAX_MEMBERS, 0),
    )


def _figure(
    found: Duplicates, decision: Decision, pictures: dict[int, Picture], *, is_first: bool
) -> CopyFigure:
    image, images = decision.image, found.images
    name = images.ids[image]
    reason = "" if is_first else decision.why
    if decision.copy_of is not None:
        reason += f"; copy of {images.ids[decision.copy_of].rpartition('/')[2]}"
    facts = facts_line(
        int(images.width[image]),
        int(images.height[image]),
        images.formats[image],
        int(images.nbytes[image]),
    )
    if images.frames[image] > 1:
        facts += f", first page only (of {images.frames[image]:,})"
    is_other = found.groups.node[image] >= found.store.rows
    return CopyFigure(
        replace(pictures.get(image) or Picture(name), facts=facts),
        decision.score,
        reason,
        found.against.path if found.against is not None and is_other else "",
    )


def _facts(found: Duplicates) -> list[tuple[str, str]]:
    info, groups = found.pairs.info, found.groups
    grouped = int((groups.group >= 0).sum())
    recall = "" if info.recall is None else f", recall {info.recall:.4f} on a sample"
    facts = [("Store", f"{found.store.path}, {found.store.rows:,} images")]
    if found.against is not None:
        facts.append(("Against", f"{found.against.path}, {found.against.rows:,} images"))
    facts += [
        ("Found", f"{len(found.pairs):,} pairs, {int(found.pairs.exact.sum()):,} of equal bytes"),
        ("Groups", f"{len(groups):,} of {grouped:,} images, by {found.linkage} linkage"),
        ("Threshold", f"{info.threshold:g} (calibration: {info.calibration})"),
        ("Search", info.mode + recall),
    ]
    if info.candidate_recall is not None:
        facts.append(("Candidates", f"{info.candidate_recall:.1%} of the copies are among them"))
    if scenes := int((found.pairs.verified == SAME_SCENE).sum()):
        facts.append(("Other photographs", f"{scenes:,} pairs show one scene, but are no copies"))
    if found.leaks is not None:
        for name, side in (("store", found.leaks.store), ("other", found.leaks.against)):
            facts.append((f"Images of the {name} in both", f"{side.leaking:,} of {side.images:,}"))
        facts.append(("Pairs with two labels", f"{found.leaks.other_label:,}"))
    return facts


def _notes(found: Duplicates, shown: int, tried: int, listed: int) -> Iterable[str]:
    if not len(found.pairs):
        return
    if found.linkage == "pairs":
        yield "Only pairs were requested: they are in pairs.parquet."
        return
    yield (
        "The least certain groups come first, and in each the image of best quality. Under each "
        "other one stands the score of its pair with one before it. This page changes nothing: "
        "'embedkit dedup plan' says which images to keep."
    )
    if first_pages := int(found.of_first_pages().sum()):
        yield (
            f"{first_pages:,} pairs have a file of several pages or frames. Only the first ones "
            "were compared, so a plan doesn't remove these files."
        )
    if shown < len(found.groups):
        yield f"{len(found.groups) - shown:,} more groups are not shown; groups.parquet has all."
    if tried < listed:
        yield (
            f"Pictures stop at {_MAX_PICTURE_BYTES / 1e6:.0f} MB: {listed - tried:,} images that "
            "are listed have none."
        )


def _leak_tables(found: Duplicates) -> list[LeakTable]:
    if found.leaks is None or found.against is None:
        return []
    sides = ((found.store.path, found.leaks.store), (found.against.path, found.leaks.against))
    return [_leak_table(path, side) for path, side in sides if side.classes]


def _leak_table(path: str, side: StoreLeaks) -> LeakTable:
    rows = [(c.label, c.leaking, c.images) for c in side.classes[:_MAX_CLASSES]]
    return LeakTable(f"Classes of {path} with images in both", rows, len(side.classes) - len(rows))
