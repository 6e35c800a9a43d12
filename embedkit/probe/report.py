"""Writes a probe's folder: the probe, its metrics as JSON and HTML, the confusion matrix.

::

    probe/
      probe.json, probe.safetensors   the probe: `embedkit probe predict` takes the folder
      report.json                     every metric, with its interval; the hashes of the splits
      report.html                     the same as a page, with the worst classes' mistakes
      confusion.json, confusion.png   where each image has one class
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import SourceError, StoreError
from embedkit.probe.page import find_pictures, make_page
from embedkit.probe.serialization import PROBE_FILE, TENSORS_FILE, save_probe
from embedkit.probe.shots import summarize_shots
from embedkit.report.probe_page import draw_confusion, write_probe_page
from embedkit.utils.atomic_write import atomic_folder
from embedkit.utils.extras import require_extra
from embedkit.utils.json import finite

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from embedkit.probe.run import ProbeResult
    from embedkit.report import Picture

__all__ = ["check_folder", "to_json", "write_probe"]

_FILES = {
    PROBE_FILE,
    TENSORS_FILE,
    "report.json",
    "report.html",
    "confusion.json",
    "confusion.png",
}
_PAGE = "report.html"


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuses a folder that can't be written, before the work; and a missing extra.

    Raises:
        StoreError: It exists, and isn't to be replaced or is no probe.
        MissingExtraError: matplotlib isn't installed.
    """
    require_extra("matplotlib", "probe", "a probe's report")
    path = Path(folder)
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}")
    if not path.exists():
        return
    if not path.is_dir() or not {one.name for one in path.iterdir()} <= _FILES:
        raise StoreError(f"{path}: exists and is no probe; choose another output")
    if not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")


def write_probe(
    result: ProbeResult,
    folder: str | os.PathLike[str],
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
) -> Path:
    """Writes a probe and its report into a folder, which appears when it is complete.

    Args:
        result: What ``run_probe`` found.
        folder: The folder to make.
        images: The sources that the test images are of, where these lie now, for the thumbnails.
            None: ids are taken for paths.
        overwrite: Whether an older probe is replaced.

    Returns:
        ``folder``.

    Raises:
        StoreError: It can't be written, or exists.
        SourceError: ``images`` has none of the images; all else is written all the same.
        MissingExtraError: matplotlib isn't installed.
    """
    check_folder(folder, overwrite=overwrite)
    path = Path(folder)
    try:
        with atomic_folder(path) as whole:
            save_probe(replace(result.probe, path=path), whole)
            missing = _write_report(result, whole, path, images)
    except OSError as exc:
        raise StoreError(f"{path}: can't be written: {exc.strerror or exc}") from exc
    if missing is not None:
        raise SourceError(f"{path}: written, but its page has no pictures: {missing}")
    return path


def to_json(result: ProbeResult) -> dict[str, Any]:
    """Every figure of a result, as JSON; None where the images don't determine it."""
    document = {
        "kind": result.probe.kind,
        "task": result.probe.task,
        "train": result.train,
        "test": result.test,
        "seed": result.seed,
        "unlabelled": result.unlabelled,
        "classes": len(result.probe.names),
        "backbone": result.probe.meta.backbone,
        "weights_fingerprint": result.probe.meta.weights_fingerprint,
        "normalize": result.probe.normalize,
        "shots": summarize_shots(result),
        "runs": [asdict(run) for run in result.runs],
    }
    return dict(finite(document))


def _write_report(
    result: ProbeResult, folder: Path, final: Path, images: Sequence[str | os.PathLike[str]]
) -> SourceError | None:
    """Writes all but the probe itself; returns why its page has no pictures."""
    (folder / "report.json").write_text(
        json.dumps(to_json(result), indent=1, allow_nan=False), "utf-8"
    )
    if result.confusion is not None:
        names = result.probe.names
        counts = {"classes": names, "counts": result.confusion.tolist()}
        (folder / "confusion.json").write_text(json.dumps(counts), "utf-8")
        (folder / "confusion.png").write_bytes(draw_confusion(result.confusion, names))
    pictures: dict[str, Picture] = {}
    missing = None
    try:
        pictures = find_pictures(result, final / _PAGE, images)
    except SourceError as exc:
        missing = exc
    write_probe_page(folder / _PAGE, make_page(result, pictures))
    return missing
