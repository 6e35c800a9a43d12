"""A calibration: the models that turn the features of a pair into the probability of a copy."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.dedup.scoring.features import FEATURES
from embedkit.dedup.scoring.logistic import LogisticModel, least_score
from embedkit.errors import EmbedkitError
from embedkit.utils.atomic_write import commit_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore, StoreMeta

__all__ = [
    "EVEN_ODDS",
    "PRECISION",
    "Calibration",
    "calibration_for",
    "default_calibration",
    "guessed_calibration",
]

PRECISION = 0.99
"""Default target precision of a search."""

EVEN_ODDS = 0.5
"""The lowest threshold that is chosen, whatever the precision."""

_FORMAT = "embedkit-calibration-1"
_FEWEST_ROWS = 100
_LEVELS = 63  # of a value of the background, either side of 0: cosines are kept to 0.001


@dataclass(frozen=True)
class Calibration:
    """Probabilities for one backbone.

    A probability depends on how frequent copies are. Here each image is assumed to have one copy in
    the store, so that the prior odds of a pair are 1 to ``rows``; for a store of another size the
    odds are changed accordingly.

    Attributes:
        name: Written into results.
        backbone: The backbone's name.
        weights_fingerprint: Fingerprint of its weights.
        pooling: Pooling of the store that was calibrated on.
        rows: Rows of that store; 0 uses the same prior for stores of any size.
        embedding_model: The model of pairs that aren't verified (``plain`` in files).
        thresholds: Precisions, ascending, and the least score that reaches each; 1 where none does.
        background: ``(n, D)`` float32 of unit length: unrelated images, which fill up the
            background set of a store that has few of its own; None if there are none.
    """

    name: str
    backbone: str
    weights_fingerprint: str
    pooling: Mapping[str, Any]
    rows: int
    embedding_model: LogisticModel
    thresholds: tuple[tuple[float, float], ...]
    background: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if set(self.embedding_model.features) != {*FEATURES}:
            raise ValueError(f"the model's features are {self.embedding_model.features}")
        if not self.thresholds or list(self.thresholds) != sorted(self.thresholds):
            raise ValueError("the thresholds aren't in order")
        if self.rows < 0:
            raise ValueError(f"rows must not be negative: {self.rows}")

    def threshold_for(self, precision: float) -> float:
        """The score from which on at least this share of the pairs are copies, and at least 0.5.

        Below 0.5 a pair is more likely no copy, even where many certain copies would keep the share
        up.

        Args:
            precision: Above 0 and at most 1; the next higher measured one is taken, or the highest.

        Raises:
            ValueError: The precision is out of its range.
        """
        if not 0 < precision <= 1:
            raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
        return max(least_score(precision, self.thresholds), EVEN_ODDS)

    def prior(self, rows: int) -> float:
        """The prior log-odds of a store of ``rows`` rows, to be added to those of the models."""
        if self.rows == 0:
            return 0.0
        return float(np.log(max(self.rows, _FEWEST_ROWS) / max(rows, _FEWEST_ROWS)))

    def refuse_other(self, meta: StoreMeta, path: object) -> None:
        """Refuses a store of another backbone.

        Raises:
            EmbedkitError: The store has another backbone, weights or pooling.
        """
        mine = self.backbone, self.weights_fingerprint, dict(self.pooling)
        if mine != (meta.backbone, meta.weights_fingerprint, dict(meta.pooling)):
            raise EmbedkitError(
                f"{path}: embedded with {meta.backbone}, but the calibration {self.name!r} is for "
                f"{self.backbone} with other weights or pooling: 'embedkit dedup calibrate' makes "
                "one for this store"
            )

    def to_config(self) -> dict[str, Any]:
        """Returns JSON-compatible values; ``from_config`` reads them."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "backbone": self.backbone,
            "weights_fingerprint": self.weights_fingerprint,
            "pooling": dict(self.pooling),
            "rows": self.rows,
            "plain": self.embedding_model.to_config(),
            "thresholds": [list(row) for row in self.thresholds],
            "background": None if self.background is None else _pack(self.background),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Reads the result of ``to_config``.

        Raises:
            ValueError: It doesn't describe a calibration.
        """
        values: dict[str, Any] = dict(config)
        if values.pop("format", None) != _FORMAT:
            raise ValueError(f"not of the format {_FORMAT}")
        try:
            values["embedding_model"] = LogisticModel.from_config(values.pop("plain"))
            values.pop("checked", None)  # of pixels, in older files: one model is for all now
            values["thresholds"] = tuple(
                (float(one), float(least)) for one, least, *_ in values["thresholds"]
            )
            packed = values.pop("background", None)  # older files have none
            values["background"] = None if packed is None else _unpack(packed)
            return cls(**values)
        except (KeyError, TypeError, AttributeError, zlib.error) as exc:
            raise ValueError(f"not a calibration: {exc!r}") from exc

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file atomically.

        Raises:
            StoreError: It can't be written.
        """
        text = json.dumps(self.to_config(), indent=1, allow_nan=False) + "\n"
        commit_bytes(Path(path), text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what ``save`` wrote.

        Raises:
            EmbedkitError: The file can't be read, or is no calibration.
        """
        try:
            return cls.from_config(json.loads(Path(path).read_text("utf-8")))
        except OSError as exc:
            raise EmbedkitError(f"{path}: can't be read: {exc.strerror or exc}") from exc
        except (ValueError, RecursionError) as exc:
            raise EmbedkitError(f"{path}: is no calibration: {exc}") from exc


def _pack(rows: NDArray[np.float32]) -> dict[str, Any]:
    """Rows as JSON holds them: a byte per value, compressed."""
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True, initial=0), 1e-12)
    levels = np.round(rows / largest * _LEVELS).astype(np.int8)
    data = base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()
    return {"rows": len(rows), "dim": rows.shape[1], "data": data}


def _unpack(packed: Mapping[str, Any]) -> NDArray[np.float32]:
    levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.int8)
    rows = levels.reshape(packed["rows"], packed["dim"]).astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def calibration_for(store: EmbeddingStore, given: Calibration | None = None) -> Calibration:
    """The calibration that scores the pairs of a store: the one given, the one shipped, a guess.

    Raises:
        EmbedkitError: The one given is for other embeddings.
    """
    if given is None:
        return default_calibration(store.meta) or guessed_calibration(store.meta)
    given.refuse_other(store.meta, store.path)
    return given


def default_calibration(meta: StoreMeta) -> Calibration | None:
    """The built-in calibration for a store's backbone, if there is one."""
    folder = resources.files("embedkit.dedup.scoring") / "calibrations"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            found = Calibration.from_config(json.loads(file.read_text("utf-8")))
            if found.weights_fingerprint == meta.weights_fingerprint and dict(
                found.pooling
            ) == dict(meta.pooling):
                return found
    return None


def guessed_calibration(meta: StoreMeta) -> Calibration:
    """A guess, named ``none``, for a backbone without a calibration.

    Images whose perceptual hashes aren't informative have even odds at a cosine of 0.94, images
    with equal hashes at 0.86, whatever the number of images.
    """
    embedding_model = LogisticModel(
        FEATURES, (0.92, 0.0, 0.0, 24.0), (0.02, 1.0, 1.0, 8.0), (1.0, 0.0, 0.0, -1.0), 0.0
    )
    return Calibration(
        "none", meta.backbone, meta.weights_fingerprint, meta.pooling, 0,
        embedding_model, ((1.0, 0.5),),
    )  # fmt: skip
