"""An extraction's settings: the source, the backbone and the metadata of the store."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from embedkit._version import __version__
from embedkit.backbones import load_configured
from embedkit.backbones.config import LoadConfig
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.errors import StoreError
from embedkit.sources import open_source
from embedkit.sources.dataset import dataset_name, is_dataset
from embedkit.sources.naming import is_url, kind_of_name
from embedkit.sources.open import as_specs
from embedkit.store.format import StoreMeta
from embedkit.utils.endings import refuse_other_ending
from embedkit.utils.progress import track
from embedkit.utils.timing import timed
from embedkit.utils.working_directory import working_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedkit.backbones import Backbone
    from embedkit.decode.image_loader import Decoder
    from embedkit.decode.resize import Scaler
    from embedkit.engines import EngineName, Precision
    from embedkit.sources import Source
    from embedkit.sources.open import Spec
    from embedkit.types import ImageRecord

__all__ = ["ExtractConfig", "Job", "RunConfig", "load_chosen", "loader_of", "prepare"]

_log = logging.getLogger("embedkit")


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """The settings of an extraction, as the keywords of ``extract``, which describes them.

    Attributes:
        backbone: A name, or a loaded backbone.
        loading: How a backbone given by its name is loaded.
        engine: The inference engine.
        device: One device or several.
        precision: Arithmetic of the network.
        batch_size: Images per batch; None chooses by device.
        dtype: Data type of the stored embeddings.
        normalize: Whether the stored rows get unit L2 norm.
        decoder: ``fast`` or ``exact``.
        policy: Decoding limits and background.
        labels: ``auto``, ``none``, ``folder``, or a CSV or Parquet file.
        image_column: Column of images in Parquet files and CSV lists; None finds it.
        image_root: Folder that paths in Parquet files are relative to; None finds it.
        label_column: Column of labels in Parquet files, CSV lists and labels files; None finds it.
        label_id_column: Column of ids or paths in a labels file; None finds it.
        prefix: Name that the ids begin with.
        list_folders: Whether folders that a list names are opened.
        null: Whether the entries of lists end in NUL.

    Raises:
        ValueError: A setting is unknown.
    """

    backbone: str | Backbone = "resnet50_swsl"
    loading: LoadConfig = field(default_factory=LoadConfig)
    engine: EngineName = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    dtype: Literal["float16", "float32"] = "float16"
    normalize: bool = False
    decoder: Decoder = "fast"
    policy: DecodePolicy = field(default_factory=DecodePolicy)
    labels: str = "auto"
    image_column: str | None = None
    image_root: str | os.PathLike[str] | None = None
    label_column: str | None = None
    label_id_column: str | None = None
    prefix: str | None = None
    list_folders: bool = False
    null: bool = False

    def __post_init__(self) -> None:
        if self.decoder not in {"fast", "exact"}:
            raise ValueError(f"decoder must be fast or exact, not {self.decoder!r}")
        if self.dtype not in {"float16", "float32"}:
            raise ValueError(f"dtype must be float16 or float32, not {self.dtype!r}")

    @classmethod
    def of(cls, **keywords: Any) -> Self:
        """The settings of ``extract``'s keywords, those of ``load_backbone`` among them.

        Raises:
            TypeError: There is no such keyword.
        """
        names = {one.name for one in fields(LoadConfig)}
        loading = {name: value for name, value in keywords.items() if name in names}
        own = {name: value for name, value in keywords.items() if name not in names}
        if own.get("policy", ...) is None:
            del own["policy"]
        loading["layers"] = tuple(loading.get("layers", ()))
        return cls(loading=LoadConfig(**loading), **own)

    @property
    def listed_by(self) -> dict[str, Any]:
        """The settings that decide which ids and labels a source has."""
        return {
            "labels": self.labels,
            "image_column": self.image_column,
            "image_root": None if self.image_root is None else os.fspath(self.image_root),
            "label_column": self.label_column,
            "label_id_column": self.label_id_column,
            "prefix": self.prefix,
        }


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The settings of a run that don't change an embedding; see ``extract``.

    Attributes:
        workers: Threads; None goes by the cores.
        processes: Whether processes decode; None where that pays.
        sharded: Whether a folder of shards is written.
        shard_rows: Images per shard; None chooses.
        overwrite: Whether an existing store is replaced.
        check_content: Whether the images of a finished store are compared by their content.

    Raises:
        ValueError: A number is less than 1.
    """

    workers: int | None = None
    processes: bool | None = None
    sharded: bool = False
    shard_rows: int | None = None
    overwrite: bool = False
    check_content: bool = False

    def __post_init__(self) -> None:
        for name in ("workers", "shard_rows"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")


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
        """What the source lists, without the store itself where it is written into the source."""
        mine = self.output.absolute()
        folder = mine.with_name(mine.name + ".partial")
        for record in track(self.listing.scan(), "listing", unit="files"):
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
    sources = [_plain(one) for one in as_specs(source)]
    _refuse_own_source(Path(output), sources)
    refuse_other_ending(output, "an embedding store")
    with timed("opened the source"):
        listing = open_source(
            sources, **config.listed_by, list_folders=config.list_folders, null=config.null
        )
    with timed("loaded the backbone"):
        loaded = load_chosen(config)
    in_process = any(is_dataset(one) for one in sources)
    meta = _describe(loaded, config, sources)
    return Job(Path(output), listing, loaded, meta, config, in_process)


def _refuse_own_source(output: Path, sources: Sequence[Spec]) -> None:
    """Refuses an output that is one of the sources, which overwriting would destroy."""
    for source in sources:
        if not isinstance(source, str | os.PathLike):
            continue
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


def _describe(backbone: Backbone, settings: ExtractConfig, sources: Sequence[Spec]) -> StoreMeta:
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
        source=[_source_name(one) for one in sources],
        plan_hash="",
        embedkit_version=__version__,
        head_applies=backbone.head_applies and not settings.normalize,
        roots=_roots(sources, settings.prefix),
    )


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
