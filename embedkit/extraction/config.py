"""An extraction's settings: the source, the backbone and the metadata of the store."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from embedkit._version import __version__
from embedkit.backbones import load_backbone
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.errors import StoreError
from embedkit.sources import open_source
from embedkit.store.format import StoreMeta
from embedkit.utils.timing import timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from embedkit.backbones import Backbone
    from embedkit.backbones.load_options import LoadOptions
    from embedkit.decode.image_loader import Decoder
    from embedkit.decode.resize import Scaler
    from embedkit.sources import Source
    from embedkit.types import ImageRecord

__all__ = ["Job", "JobOptions", "loader_of", "prepare"]

_log = logging.getLogger("embedkit")


class JobOptions(TypedDict, total=False):
    """Options that affect the rows of a store, besides the backbone's own.

    Attributes:
        dtype: Data type of the stored embeddings.
        normalize: Whether the stored rows get unit L2 norm.
        decoder: ``fast`` or ``exact``.
        policy: Decoding limits and background; None is the default policy.
        labels: ``auto``, ``none``, ``folder``, or a CSV or Parquet file.
        image_column: For Parquet: the column of images; None finds it.
        label_column: For Parquet or a labels file: the column of labels; None finds it.
    """

    dtype: Literal["float16", "float32"]
    normalize: bool
    decoder: Decoder
    policy: DecodePolicy | None
    labels: str
    image_column: str | None
    label_column: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of an extraction.

    Attributes:
        output: The store.
        listing: The source.
        backbone: The backbone.
        meta: Metadata of the store; engine and plan are filled in later.
        listed_by: The settings by which the source is listed: labels and columns.
    """

    output: Path
    listing: Source
    backbone: Backbone
    meta: StoreMeta
    listed_by: Mapping[str, str | None]

    def scan(self) -> Iterator[ImageRecord]:
        """What the source lists, without the store itself where it is written into the source."""
        mine = self.output.absolute()
        folder = mine.with_name(mine.name + ".partial")
        for record in self.listing.scan():
            if self.output.name in record.path:  # quickly, for nearly all
                path = Path(record.path).absolute()
                if mine in {path, path.parent} or folder in {path, path.parent}:
                    continue
            yield record


def loader_of(meta: StoreMeta, backbone: Backbone, scale: Scaler) -> ImageLoader:
    """The image loader with the settings of a store."""
    settings = dict(meta.decode)
    decoder = settings.pop("decoder")
    policy = DecodePolicy.from_config(settings)
    return ImageLoader(policy, backbone.preprocessing, decoder, scale)


def prepare(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    backbone: str | Backbone,
    options: JobOptions,
    loading: LoadOptions,
) -> Job:
    """Opens the source, loads the backbone and logs its licence.

    Raises:
        SourceError: The source can't be opened.
        BackboneError: The backbone or its weights aren't available.
        ValueError: An option is out of its range.
    """
    dtype, decoder = options.get("dtype", "float16"), options.get("decoder", "fast")
    if decoder not in {"fast", "exact"}:
        raise ValueError(f"decoder must be fast or exact, not {decoder!r}")
    if dtype not in {"float16", "float32"}:
        raise ValueError(f"dtype must be float16 or float32, not {dtype!r}")
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    _refuse_own_source(Path(output), sources)
    labels = options.get("labels", "auto")
    image_column, label_column = options.get("image_column"), options.get("label_column")
    with timed("opened the source"):
        listing = open_source(
            sources, labels=labels, image_column=image_column, label_column=label_column
        )
    with timed("loaded the backbone"):
        loaded = _load(backbone, loading)
    policy = options.get("policy") or DecodePolicy()
    decode = {"decoder": decoder, **policy.to_config()}
    meta = _describe(loaded, decode, dtype, options.get("normalize", False), sources)
    listed_by = {"labels": labels, "image_column": image_column, "label_column": label_column}
    return Job(Path(output), listing, loaded, meta, listed_by)


def _refuse_own_source(output: Path, sources: Sequence[str | os.PathLike[str]]) -> None:
    """Refuses an output that is one of the sources, which overwriting would destroy."""
    for source in sources:
        if output.exists() and Path(source).exists() and output.samefile(source):
            raise StoreError(f"{output}: is one of the sources; choose another output")


def _load(backbone: str | Backbone, options: LoadOptions) -> Backbone:
    """Loads a backbone by its name; logs its licence and warning."""
    if isinstance(backbone, str):
        backbone = load_backbone(backbone, **options)
    elif options:
        raise ValueError(f"{', '.join(options)}: only for a backbone that is given by its name")
    level = logging.WARNING if "-NC" in backbone.licence else logging.INFO
    _log.log(level, "weights of %s: licence %s", backbone.spec.name, backbone.licence)
    if backbone.warning:
        _log.warning("%s", backbone.warning)
    return backbone


def _describe(
    backbone: Backbone,
    decode: Mapping[str, Any],
    dtype: str,
    normalize: bool,
    sources: Sequence[str | os.PathLike[str]],
) -> StoreMeta:
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
        dtype=dtype,
        normalized=normalize,
        decode=decode,
        engine={},
        source=[_source_name(source) for source in sources],
        plan_hash="",
        embedkit_version=__version__,
        head_applies=backbone.head_applies and not normalize,
    )


def _source_name(source: str | os.PathLike[str]) -> str:
    """The source as given, without a trailing slash."""
    name = os.fspath(source)
    return name if "://" in name else name.rstrip("/") or "/"
