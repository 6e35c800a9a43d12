"""Which pooling and which crop find edited copies best by a plain cosine?

    python benchmarks/copy_pooling.py --images photos/ --distractors caltech20/

The copies and references of `copies.py` (150 photographs in 25 edits, 600 distractors) are embedded
once for each setting. All pairs of a query and a reference make one ranking: micro-AP, and the
recall where the precision is 0.99, of the cosine and of the cosine after whitening (learned on the
references). The second table has the recall of the cosine by edit, at the threshold of the whole
ranking.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from copies import PRECISION, edit, images_of, link, unit, whitening
from edits import EDITS
from numpy.typing import NDArray
from support.machine import print_facts
from support.tables import print_table

from embedkit import EmbeddingStore, extract
from embedkit.metrics import micro_ap, recall_at_precision

WHITENED = 256


@dataclass(frozen=True)
class Setting:
    """One way to embed.

    Attributes:
        pooling: ``--pooling``.
        crop_mode: ``--crop-mode``.
        size: ``--input-size``, pixels; None for the backbone's own.
    """

    pooling: str
    crop_mode: str
    size: int | None = None

    @property
    def name(self) -> str:
        return f"{self.pooling}, {self.crop_mode}" + (f", {self.size} px" if self.size else "")


SETTINGS = (
    *(Setting(pooling, crop) for crop in ("center", "squash")
      for pooling in ("avg", "gem", "max")),
    *(Setting("gem", "squash", size) for size in (288, 320)),
)  # fmt: skip
BY_EDIT = tuple(one for one in SETTINGS if one.pooling in ("avg", "gem") and one.size is None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--distractors", type=Path, required=True)
    parser.add_argument("--originals", type=int, default=150)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = images_of(args.images)
        photos, apart = photos[: args.originals], photos[args.originals :]
        link([*photos, *images_of(args.distractors)], folder / "references")
        edit(photos, apart, folder / "queries")
        measured = {
            setting: Measured.of(embed(setting, args.backbone, folder)) for setting in SETTINGS
        }
    print_table(
        ["pooling, crop", "cosine: micro-AP", "recall", "whitened: micro-AP", "recall"],
        [[setting.name, *found.cells()] for setting, found in measured.items()],
    )
    print()
    print_table(
        ["edit: recall of the cosine", *(setting.name for setting in BY_EDIT)],
        [
            [kind, *(f"{measured[setting].by_edit[kind]:.3f}" for setting in BY_EDIT)]
            for kind in EDITS
        ],
    )


@dataclass(frozen=True)
class Embedded:
    """Unit rows of queries ``(Q, D)`` and references ``(N, D)``.

    Attributes:
        queries: Edited copies.
        references: What they are looked for in.
        original: ``(Q,)``, the row of the reference that each query is a copy of.
        kinds: ``(Q,)``, the edit of each.
    """

    queries: NDArray[np.float64]
    references: NDArray[np.float64]
    original: NDArray[np.int64]
    kinds: NDArray[np.str_]


@dataclass(frozen=True)
class Measured:
    """Of one setting: micro-AP and recall of the cosine, the same whitened, recall by edit."""

    cosine: tuple[float, float]
    whitened: tuple[float, float]
    by_edit: dict[str, float]

    @classmethod
    def of(cls, rows: Embedded) -> "Measured":
        scores = rows.queries @ rows.references.T
        *cosine, threshold = figures(scores, rows.original)
        found = scores[np.arange(len(scores)), rows.original] >= threshold
        by_edit = {kind: float(found[rows.kinds == kind].mean()) for kind in EDITS}
        whiten = whitening(rows.references, WHITENED)
        scores = whiten(rows.queries) @ whiten(rows.references).T
        return cls(tuple(cosine), figures(scores, rows.original)[:2], by_edit)

    def cells(self) -> list[str]:
        return [f"{value:.3f}" for value in (*self.cosine, *self.whitened)]


def embed(setting: Setting, backbone: str, folder: Path) -> Embedded:
    """Embeds queries and references as a setting says."""
    rows, ids = {}, {}
    for part in ("queries", "references"):
        extract(
            folder / part, folder / f"{part}.h5", backbone=backbone, labels="none",
            pooling=setting.pooling, input_size=setting.size,
            preprocessing={"crop_mode": setting.crop_mode}, overwrite=True,
        )  # fmt: skip
        with EmbeddingStore.open(folder / f"{part}.h5") as store:
            rows[part] = unit(store.to_numpy(np.float64))
            ids[part] = [Path(name).name for name in store.ids]
    places = {name: row for row, name in enumerate(ids["references"])}
    original = np.array([places[name[3:]] for name in ids["queries"]])
    kinds = np.array([list(EDITS)[int(name[:2])] for name in ids["queries"]])
    return Embedded(rows["queries"], rows["references"], original, kinds)


def figures(scores: NDArray[np.float64], original: NDArray[np.int64]) -> tuple[float, float, float]:
    """micro-AP, the recall at the precision, and its threshold, of all pairs ``(Q, N)``."""
    truth = np.zeros(scores.shape, bool)
    truth[np.arange(len(scores)), original] = True
    pairs = scores.ravel(), truth.ravel()
    recall, threshold = recall_at_precision(*pairs, PRECISION, positives=len(scores))
    return micro_ap(*pairs, positives=len(scores)), recall, threshold


if __name__ == "__main__":
    main()
