"""An extraction's settings: those of the embeddings and those of the run."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from embedkit.backbones.config import LoadConfig
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.time_limit import IMAGE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.decode.image_loader import Decoder
    from embedkit.engines import EngineName, Precision
    from embedkit.sources.part import Part

__all__ = ["ExtractConfig", "RunConfig"]


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
        thumbnails: Whether a small gray picture of each image is stored.

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
    thumbnails: bool = True

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
    def changed(self) -> dict[str, Any]:
        """The settings that aren't the defaults, as keywords of ``extract``."""
        default = type(self)()
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "loading"}
        changed = {name: v for name, v in own.items() if v != getattr(default, name)}
        return changed | {name: getattr(self.loading, name) for name in self.loading.changed}

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
        update: Whether a finished store is brought up to date with its source.
        keep_removed: Whether an update keeps the rows of images that the source lacks now.
        retry_failed: Whether the images that failed are tried again.
        max_read_errors: Images in a row that can't be read before the run stops; 0 never stops.
        image_timeout: Seconds that the decoding of an image may take; 0 is no limit.
        part: The part of the images that this run embeds; None for all.
        ray: The Ray cluster whose workers embed; None for this process.
        num_gpus: GPUs of each Ray worker.
        decode_cpus: CPU cores of the Ray cluster that decode for all workers; 0: each worker
            decodes itself.
        work_dir: Where unfinished work for a URL is kept; None is embedkit's cache.

    Raises:
        ValueError: A number is too small, or two settings contradict each other.
    """

    workers: int | None = None
    processes: bool | None = None
    sharded: bool = False
    shard_rows: int | None = None
    overwrite: bool = False
    check_content: bool = False
    update: bool = False
    keep_removed: bool = False
    retry_failed: bool = False
    max_read_errors: int = 32
    image_timeout: float = IMAGE_SECONDS
    part: Part | None = None
    ray: str | None = None
    num_gpus: float = 0
    decode_cpus: int = 0
    work_dir: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.image_timeout < threading.TIMEOUT_MAX:
            raise ValueError(
                f"image_timeout takes seconds, 0 for no limit, not {self.image_timeout}"
            )
        self._check_part()
        self._check_ray()
        if self.max_read_errors < 0:
            raise ValueError(f"max_read_errors must be at least 0, not {self.max_read_errors}")
        for name in ("workers", "shard_rows"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        if self.overwrite and (self.update or self.retry_failed):
            raise ValueError("overwrite=True embeds everything anew: it goes without update=True")
        if self.keep_removed and not self.update:
            raise ValueError("keep_removed=True goes with update=True only")

    def images_each(self, images: int, devices: int) -> int:
        """How many images a device embeds, about; 0 if Ray decides how many devices there are."""
        if self.ray is not None:
            return images // self.workers if self.workers else 0
        return images // (devices * (1 if self.part is None else self.part.of))

    def _check_part(self) -> None:
        if self.part is None:
            return
        if self.update or self.retry_failed:
            raise ValueError("a run of one part goes without update=True and retry_failed=True")
        if self.overwrite and self.sharded:
            raise ValueError(
                "overwrite=True would discard the work of the other parts: delete the folder and "
                "its .partial folder first, or choose another output"
            )

    def _check_ray(self) -> None:
        if self.ray is None and self.num_gpus:
            raise ValueError("num_gpus goes with ray only; device says which GPUs to use without")
        if self.num_gpus < 0:
            raise ValueError(f"num_gpus must be at least 0, not {self.num_gpus}")
        if self.decode_cpus < 0:
            raise ValueError(f"decode_cpus must be at least 0, not {self.decode_cpus}")
        if self.decode_cpus and self.ray is None:
            raise ValueError("decode_cpus goes with ray only; workers says how many decode without")
        if self.decode_cpus and self.processes is not None:
            raise ValueError("decode_cpus decodes in processes of its own: leave processes out")
        if self.ray is not None and (self.part is not None or self.update or self.retry_failed):
            raise ValueError("ray goes without part, update=True and retry_failed=True")
