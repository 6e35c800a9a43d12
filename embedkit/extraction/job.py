"""What an extraction works on: the opened source, the loaded backbone, the store's metadata."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit._version import __version__
from embedkit.backbones import load_configured
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import StoreError
from embedkit.sources import open_source
from embedkit.sources.dataset import dataset_name, is_dataset
from embedkit.sources.naming import is_url, kind_of_name
from embedkit.sources.open import as_specs
from embedkit.store.format import StoreMeta
from embedkit.utils.endings import refuse_other_ending
from embedkit.utils.progress import track
from embedkit.utils.timing import timed
from embedkit.utils.urls import object_url
from embedkit.utils.working_directory import working_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedkit.backbones import Backbone
    from embedkit.decode.resize import Scaler
    from embedkit.extraction.config import ExtractConfig
    from embedkit.sources import Source
    from embedkit.sources.open import Spec
    from embedkit.types import ImageRecord

__all__ = [
    "Job",
    "describe",
    "load_chosen",
    "loader_of",
    "omitted_columns_of",
    "open_listing",
    "prepare",
    "provenance_of",
    "scan_for",
]

_log = logging.getLogger("embedkit")


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of an extraction.

    Attributes:
        output: The store.
        listing: The source.
        backbone: The backbone.
        meta: Metadata of the store; engine and plan are filled in later.
        config: All settings.
        in_process: Whether the images can only be read in this process.
    """

    output: Path
    listing: Source
    backbone: Backbone
    meta: StoreMeta
    config: ExtractConfig
    in_process: bool = False

    def scan(self) -> Iterator[ImageRecord]:
        """What the source lists; see ``scan_for``."""
        return scan_for(self.output, self.listing)


def scan_for(output: Path, listing: Source) -> Iterator[ImageRecord]:
    """What a source lists, without the store itself where it is written into the source."""
    mine = output.absolute()
    folder = mine.with_name(mine.name + ".partial")
    for record in track(listing.scan(), "listing", unit="files"):
        if output.name in record.path:  # quickly, for nearly all
            path = Path(record.path).absolute()
            if {mine, folder} & {path, *path.parents}:
                continue
        yield record


def loader_of(meta: StoreMeta, scale: Scaler, timeout: float) -> ImageLoader:
    """The image loader with the settings of a store, and a time limit per image in seconds."""
    settings = dict(meta.decode)
    decoder = settings.pop("decoder")
    policy = DecodePolicy.from_config(settings)
    preprocessing = Preprocessing.from_config(meta.preprocessing)
    return ImageLoader(policy, preprocessing, decoder, scale, timeout)


def prepare(
    source: Spec | Sequence[Spec],
    output: str | os.PathLike[str],
    config: ExtractConfig,
) -> Job:
    """Opens the source, loads the backbone and logs its licence.

    Raises:
        SourceError: The source can't be opened.
        BackboneError: The backbone or its weights aren't available.
        ValueError: A setting is out of its range.
    """
    sources, listing = open_listing(source, output, config)
    with timed("loaded the backbone"):
        loaded = load_chosen(config)
    in_process = any(is_dataset(one) for one in sources)
    meta = describe(loaded, config, sources)
    return Job(Path(output), listing, loaded, meta, config, in_process)


def open_listing(
    source: Spec | Sequence[Spec], output: str | os.PathLike[str], config: ExtractConfig
) -> tuple[list[Spec], Source]:
    """Opens the source; returns its parts as they are named in the store, and what lists them.

    Raises:
        SourceError: The source can't be opened.
        StoreError: The output is one of the sources, or has the ending of another format.
    """
    sources = [_plain(one) for one in as_specs(source)]
    _refuse_own_source(Path(output), sources)
    refuse_other_ending(output, "an embedding store")
    with timed("opened the source"):
        listing = open_source(
            sources, **config.listed_by, list_folders=config.list_folders, null=config.null
        )
    return sources, listing


def provenance_of(sources: Sequence[Spec], config: ExtractConfig) -> dict[str, Any]:
    """The fields of a store's metadata that say where its images come from."""
    listed = {**config.listed_by, "list_folders": config.list_folders, "null": config.null}
    changed = {name: value for name, value in listed.items() if name in config.changed}
    return {
        "source": [_source_name(one) for one in sources],
        "roots": _roots(sources, config.prefix),
        "listing": changed,
    }


def _refuse_own_source(output: Path, sources: Sequence[Spec]) -> None:
    """Refuses an output that is one of the sources, which overwriting would destroy."""
    for source in sources:
        if not isinstance(source, str | os.PathLike):
            continue
        if (url := object_url(output)) and url == object_url(source):
            raise StoreError(f"{url}: is one of the sources; choose another output")
        if output.exists() and Path(source).exists() and output.samefile(source):
            raise StoreError(f"{output}: is one of the sources; choose another output")


def load_chosen(config: ExtractConfig) -> Backbone:
    """Loads the backbone of some settings, unless it is loaded; logs its licence and warning.

    Raises:
        BackboneError: The backbone or its weights aren't available.
        ValueError: There are settings for a backbone that is loaded already.
    """
    backbone = config.backbone
    if isinstance(backbone, str):
        backbone = load_configured(backbone, config.loading)
    elif changed := config.loading.changed:
        raise ValueError(f"{', '.join(changed)}: only for a backbone that is given by its name")
    level = logging.WARNING if "-NC" in backbone.licence else logging.INFO
    _log.log(level, "weights of %s: licence %s", backbone.spec.name, backbone.licence)
    if backbone.warning:
        _log.warning("%s", backbone.warning)
    return backbone


def describe(backbone: Backbone, settings: ExtractConfig, sources: Sequence[Spec]) -> StoreMeta:
    """Metadata of the store; the engine and the plan's hash are added when the run begins."""
    config = backbone.to_config()
    return StoreMeta(
        backbone=config["backbone"],
        weights_fingerprint=config["weights_fingerprint"],
        weights=config["weights"],
        licence=config["licence"],
        preprocessing=config["preprocessing"],
        pooling={key: config[key] for key in ("pooling", "gem_p", "layers", "flip")},
        feature_dim=backbone.feature_dim,
        dtype=settings.dtype,
        normalized=settings.normalize,
        decode={"decoder": settings.decoder, **settings.policy.to_config()},
        engine={},
        plan_hash="",
        embedkit_version=__version__,
        head_applies=backbone.head_applies and not settings.normalize,
        omitted_columns=omitted_columns_of(settings),
        **provenance_of(sources, settings),
    )


def omitted_columns_of(settings: ExtractConfig) -> list[str]:
    """The columns that a store is to be without."""
    return [] if settings.thumbnails else ["thumbnail"]


def _plain(source: Spec) -> Spec:
    """The source as given, a path without ``./`` before it and slashes after it."""
    if not isinstance(source, str | os.PathLike):
        return source
    name = os.fsdecode(source)
    if "://" in name:
        return name
    plain = re.sub(r"^(\./+)+", "", re.sub(r"/(\./|/)+", "/", name)).rstrip("/")
    return plain or name[:1]


def _source_name(source: Spec) -> str:
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else dataset_name(source)


def _roots(sources: Sequence[Spec], prefix: str | None) -> list[str]:
    """Where ids start from; see ``StoreMeta.roots``."""
    here = working_directory()
    if prefix is not None:
        return [str((here or Path("/")) / f"<{prefix.rstrip('/')}>")]
    return [] if here is None or all(map(_is_absolute, sources)) else [str(here)]


def _is_absolute(source: Spec) -> bool:
    """Whether all ids of a source are absolute; a list may hold relative ones."""
    if not isinstance(source, str | os.PathLike):
        return True
    name = os.fsdecode(source)
    named = kind_of_name(name) == "list" or name == "-"
    return not named and (is_url(name) or Path(name).is_absolute())
