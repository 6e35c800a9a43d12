"""``summary.json``: what a folder of duplicates says of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from embedkit._version import __version__
from embedkit.dedup.groups.grouping import LINKAGES
from embedkit.dedup.leakage import ClassLeaks, Leaks, StoreLeaks
from embedkit.dedup.pairs import PairsInfo
from embedkit.dedup.results import StoreName
from embedkit.errors import DedupError
from embedkit.store.detect import wrong_kind
from embedkit.utils.manifest import ManifestFormat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedkit.dedup.groups.grouping import Linkage
    from embedkit.dedup.results import Duplicates

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "SUMMARY",
    "Summary",
    "count",
    "encode_summary",
    "read_summary",
]

SUMMARY = "summary.json"
FORMAT_NAME = "embedkit-duplicates"
FORMAT_VERSION = 1
_FORMAT = ManifestFormat(
    FORMAT_NAME,
    FORMAT_VERSION,
    "a folder of duplicates",
    "search again with 'embedkit dedup find'",
    missing=DedupError,
    other=DedupError,
    damaged=DedupError,
)


@dataclass(frozen=True, slots=True)
class Summary:
    """The contents of ``summary.json``, read and checked.

    Attributes:
        info: How the pairs were found.
        linkage: How they were grouped.
        store: What was searched.
        against: What it was compared with.
        leaks: What two stores have in common.
        settings: Of the search.
        pairs: How many there are.
        images: How many are in pairs.
        files: File name to SHA-256 (hex).
    """

    info: PairsInfo
    linkage: Linkage
    store: StoreName
    against: StoreName | None
    leaks: Leaks | None
    settings: Mapping[str, Any]
    pairs: int
    images: int
    files: Mapping[str, str]


def encode_summary(found: Duplicates, files: Mapping[str, str]) -> bytes:
    """The bytes of ``summary.json``; ``read_summary`` reads them."""
    content = {
        "embedkit_version": __version__,
        "store": asdict(found.store),
        "against": found.against and asdict(found.against),
        "settings": dict(found.settings),
        "search": asdict(found.pairs.info),
        "linkage": found.linkage,
        "counts": count(found),
        "leaks": found.leaks and asdict(found.leaks),
        "files": dict(files),
    }
    return _FORMAT.encode(content)


def count(found: Duplicates) -> dict[str, int]:
    """The figures that people ask for first."""
    return {
        "pairs": len(found.pairs),
        "exact_pairs": int(found.pairs.exact.sum()),
        "first_page_pairs": int(found.of_first_pages().sum()),
        "images": len(found.images),
        "groups": len(found.groups),
        "grouped_images": int((found.groups.group >= 0).sum()),
        "surplus_images": found.surplus(),
    }


def read_summary(folder: Path) -> Summary:
    """Reads and checks ``summary.json``.

    Raises:
        DedupError: There is none, or it isn't one.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise DedupError(wrong_kind(folder, "duplicates"))
    content = _FORMAT.read(path)
    try:
        return _parse(content)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        reason = f"{exc} is missing" if isinstance(exc, KeyError) else exc
        raise DedupError(f"{path}: damaged: {reason}; search again") from exc


def _parse(content: Mapping[str, Any]) -> Summary:
    files, settings = content["files"], content["settings"]
    for name, value in files.items():
        if not isinstance(value, str) or len(value) != 64:
            raise ValueError(f"{name!r} has no SHA-256")
    if not isinstance(settings, dict):
        raise TypeError("settings is no table")
    if content["linkage"] not in LINKAGES:
        raise ValueError(f"no linkage {content['linkage']!r}")
    store, against = _store(content["store"]), content["against"]
    against = None if against is None else _store(against)
    info = _info(content["search"])
    if (info.rows, info.against_rows) != (store.rows, against and against.rows):
        raise ValueError("its stores have other numbers of rows than its pairs")
    return Summary(
        info,
        content["linkage"],
        store,
        against,
        None if content["leaks"] is None else _leaks(content["leaks"]),
        settings,
        _number(content["counts"], "pairs"),
        _number(content["counts"], "images"),
        files,
    )


def _info(table: Mapping[str, Any]) -> PairsInfo:
    threshold, recall = table["threshold"], table["recall"]
    among = table.get("candidate_recall")  # older folders lack it
    for value in (threshold, recall or 0, among or 0):
        if type(value) not in {int, float} or not 0 <= value <= 1:
            raise ValueError(f"{value!r} isn't from 0 to 1")
    if table["mode"] not in {"exact", "approximate"}:
        raise ValueError(f"no mode {table['mode']!r}")
    against = None if table["against_rows"] is None else _number(table, "against_rows")
    return PairsInfo(
        threshold,
        table["mode"],
        recall,
        _word(table, "calibration"),
        _number(table, "rows"),
        against,
        among,
    )


def _store(table: Mapping[str, Any]) -> StoreName:
    roots = tuple(map(str, table.get("roots", ())))
    return StoreName(_word(table, "path"), _word(table, "digest"), _number(table, "rows"), roots)


def _leaks(table: Mapping[str, Any]) -> Leaks:
    return Leaks(_side(table["store"]), _side(table["against"]), _number(table, "other_label"))


def _side(table: Mapping[str, Any]) -> StoreLeaks:
    classes = tuple(
        ClassLeaks(_word(c, "label"), _number(c, "leaking"), _number(c, "images"))
        for c in table["classes"]
    )
    return StoreLeaks(_number(table, "leaking"), _number(table, "images"), classes)


def _number(table: Mapping[str, Any], key: str) -> int:
    value = table[key]
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is {value!r}, no count")
    return value


def _word(table: Mapping[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}, no text")
    return value
