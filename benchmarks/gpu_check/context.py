"""What a step is given (device, sizes, photos, time) and where its figures go."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from support.photos import image_files

if TYPE_CHECKING:
    from pathlib import Path

DRAWN_SIZE = (500, 375)  # pixels, ImageNet's median


@dataclass(frozen=True)
class Sizes:
    """How much a step does; a rehearsal does just enough to run every line."""

    photos: int = 480  # drawn once
    images: int = 40_000  # embedded end to end, repeated by links
    fidelity_images: int = 480
    batches: tuple[int, ...] = (64, 128, 256, 512)
    seconds: float = 1.5  # of each rate
    join_rows: tuple[int, ...] = (200_000, 1_000_000)
    join_check_rows: int = 20_000  # queries of a large join that the CPU repeats
    faiss_rows: int = 10_000_000
    faiss_lists: int = 16_384
    faiss_queries: int = 10_000
    probe_rows: int = 200_000
    probe_check_rows: int = 10_000  # rows of the fit that the CPU repeats
    probe_dim: int = 2048
    probe_classes: int = 1000
    networks: tuple[str, ...] = (  # the more telling ones first
        "resnet50_swsl",
        "resnext101_32x8d_swsl",
        "resnet18_swsl",
        "efficientnet_lite0",
        "resnext101_32x16d_swsl",
    )
    trained: str = "efficientnet_lite0"  # what fidelity is measured with


REHEARSAL = Sizes(
    photos=6,
    images=24,
    fidelity_images=6,
    batches=(1, 2),
    seconds=0.01,
    join_rows=(2_000, 3_000),
    join_check_rows=500,
    faiss_rows=20_000,
    faiss_lists=64,
    faiss_queries=50,
    probe_rows=600,
    probe_check_rows=300,
    probe_dim=32,
    probe_classes=5,
    networks=("tiny",),
    trained="tiny",
)


@dataclass
class Context:
    """A step's surroundings.

    Attributes:
        name: The step's.
        output: Folder of results: ``NAME.json`` and ``NAME.txt``, rewritten with every figure.
        work: Folder for files that may be thrown away.
        device: ``cuda``, or ``cpu`` in a rehearsal.
        sizes: How much to do.
        images: A folder of photos; None draws some.
        deadline: When the step should have ended, on the clock of ``time.monotonic``.
    """

    name: str
    output: Path
    work: Path
    device: str
    sizes: Sizes
    images: Path | None
    deadline: float
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device != "cpu"

    @property
    def seconds_left(self) -> float:
        """Until the step should have ended."""
        return self.deadline - time.monotonic()

    def report(self, line: str, **figures: Any) -> None:
        """Write down a line of text and the figures in it, at once."""
        print(f"  {line}", flush=True)
        self.figures.update(figures)
        with (self.output / f"{self.name}.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        write_json(self.output / f"{self.name}.json", self.figures)

    @cached_property
    def photos(self) -> list[Path]:
        """JPEG photos: those of the given folder, or drawn ones."""
        if self.images is not None:
            return image_files(self.images)
        folder = self.work / f"photos-{self.sizes.photos}"
        if not folder.exists():
            draw_photos(folder, self.sizes.photos)
        return image_files(folder)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is whole at every moment."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    draft.replace(path)


def draw_photos(folder: Path, count: int) -> None:
    """Draw photos with all cores."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    draft = folder.with_suffix(".drawing")
    draft.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_draw_one, [(draft, number) for number in range(count)], chunksize=8))
    draft.rename(folder)


def _draw_one(job: tuple[Path, int]) -> None:
    from images import draw_photo, encode

    folder, seed = job
    data = encode(draw_photo(seed, DRAWN_SIZE), "JPEG", quality=90)
    (folder / f"photo_{seed:04d}.jpg").write_bytes(data)
