"""Where a backbone's weights come from: a file, this machine, the hub, or the first publisher."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.backbones.download import download
from embedkit.backbones.table import weights_folder, weights_on_disk
from embedkit.errors import MissingExtraError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.backbones.spec import BackboneSpec

__all__ = ["obtain_weights"]


def obtain_weights(
    spec: BackboneSpec,
    weights: str | os.PathLike[str] = "auto",
    *,
    cache: Path | None = None,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> tuple[Path, str]:
    """Find a backbone's weights, or download them.

    Args:
        spec: The backbone.
        weights: ``auto``, or a file.
        cache: embedkit's cache, if not the usual one.
        on_progress: As in `embedkit.backbones.download.download`.

    Returns:
        The file, and one word that says where it is from: ``hub:timm/…``, ``url:https://…``,
        ``package:…`` or ``file:NAME``.

    Raises:
        WeightsError: They are not here and can't be downloaded.
        MissingExtraError: They are in a Python package that isn't installed.
    """
    if os.fspath(weights) != "auto":
        path = Path(weights).expanduser()
        return path, f"file:{path.name}"
    path_here = weights_on_disk(spec, cache)
    if path_here is not None:
        return path_here, _provenance(spec, path_here)
    if spec.source == "package":
        package = spec.package.replace("_", "-")
        raise MissingExtraError(package, "demo", f"the backbone {spec.name}")
    path = _fetch(spec, weights_folder(cache), on_progress)
    return path, _provenance(spec, path)


def _provenance(spec: BackboneSpec, path: Path) -> str:
    if spec.package:
        return f"package:{spec.package}"
    return f"url:{spec.url}" if path.name == spec.filename else f"hub:{spec.hub_id}"


def _fetch(
    spec: BackboneSpec,
    folder: Path,
    on_progress: Callable[[str, int, int | None], None] | None,
) -> Path:
    """Try each place on the network; if all fail, say what to bring and where to put it."""
    reasons = ["HF_HUB_OFFLINE or EMBEDKIT_OFFLINE is set"] if _offline() else []
    for place, url, target, sha8 in () if reasons else _places(spec, folder):
        try:
            return download(url, target, sha8=sha8, on_progress=on_progress)
        except WeightsError as exc:
            reasons.append(f"{place}: " + str(exc).removeprefix(f"{url}: "))
    # The original first: its name and its URL need no renaming.
    places = reversed(list(_places(spec, folder)))
    wanted = " or ".join(f"{target.name} from {url}" for _, url, target, _ in places)
    raise WeightsError(
        f"{spec.name}: no weights on this machine and none could be downloaded "
        f"({'; '.join(reasons)}): bring {wanted or 'a weights file'} into {folder}, "
        "or pass --weights FILE"
    )


def _places(spec: BackboneSpec, folder: Path) -> Iterator[tuple[str, str, Path, str | None]]:
    """List (what, URL, target, first digits of its SHA-256), best first."""
    if spec.hub_id:
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
        url = f"{endpoint}/{spec.hub_id}/resolve/main/{spec.hub_filename}"
        yield "hub", url, folder / spec.cache_name, None
    if spec.url:
        yield "original", spec.url, folder / spec.filename, spec.sha8 or None


def _offline() -> bool:
    told = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "EMBEDKIT_OFFLINE"))
    return any(value.lower() in ("1", "true", "yes", "on") for value in told)
