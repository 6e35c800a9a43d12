"""What turns the features of a pair into the probability that it is a copy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.dedup.scoring.features import FEATURES
from embedkit.dedup.scoring.logistic import LogisticModel
from embedkit.errors import EmbedkitError
from embedkit.utils.atomic_write import commit_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.store import EmbeddingStore, StoreMeta

__all__ = [
    "CHECKED_FEATURES",
    "EVEN_ODDS",
    "PRECISION",
    "Calibration",
    "calibration_for",
    "default_calibration",
    "evidence_columns",
    "guessed_calibration",
]

CHECKED_FEATURES = ("plain", "inliers", "correlation", "whole")
"""The features of a pair that was looked at: the log-odds without looking, and the evidence."""

PRECISION = 0.99
"""Of what a search finds, unless something else is asked for."""

EVEN_ODDS = 0.5
"""The least score that is chosen for any precision."""

_DOUBTFUL, _SURE = 0.6, 0.9  # correlations at which keypoints count for nothing, and in full
_FORMAT = "embedkit-calibration-1"
_FEWEST_ROWS = 100


@dataclass(frozen=True)
class Calibration:
    """Probabilities for one backbone.

    A probability needs a frequency: here one image in the store is a copy of the other one, so
    that a pair is a copy with odds of 1 to ``rows`` before anything is known of it. For a store of
    another size the odds are changed accordingly.

    Attributes:
        name: What a result says that it was scored by.
        backbone: The backbone's name.
        weights_fingerprint: Of its weights.
        pooling: Of the store that was calibrated on.
        rows: Of that store; 0 leaves the odds alone whatever the size.
        plain: The model without pixels.
        checked: The model with pixels; its feature ``plain`` is what the other one gives.
        thresholds: Precisions, ascending, and the least score that reaches each: without pixels,
            and with pixels; 1 where none does.
    """

    name: str
    backbone: str
    weights_fingerprint: str
    pooling: Mapping[str, Any]
    rows: int
    plain: LogisticModel
    checked: LogisticModel
    thresholds: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        if set(self.plain.features) != {*FEATURES}:
            raise ValueError(f"the model's features are {self.plain.features}")
        if set(self.checked.features) != {*CHECKED_FEATURES}:
            raise ValueError(f"the checking model's features are {self.checked.features}")
        if not self.thresholds or list(self.thresholds) != sorted(self.thresholds):
            raise ValueError("the thresholds aren't in order")
        if self.rows < 0:
            raise ValueError(f"rows must not be negative: {self.rows}")

    def threshold_for(self, precision: float, *, checked: bool) -> float:
        """The least score of pairs of which at least this share are copies, and at least 0.5.

        Beside many sure copies a few unlikely ones wouldn't be noticed in the share: what is
        likelier not a copy is none, however many others are.

        Args:
            precision: Above 0 and at most 1; the next higher one that was measured is taken, or
                the highest.
            checked: Whether pixels are looked at.

        Raises:
            ValueError: The precision is out of its range.
        """
        if not 0 < precision <= 1:
            raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
        enough = [row for row in self.thresholds if row[0] >= precision - 1e-9]
        _, plain, looked = enough[0] if enough else self.thresholds[-1]
        return max(looked if checked else plain, EVEN_ODDS)

    def prior(self, rows: int) -> float:
        """What a store of ``rows`` rows adds to the log-odds that the models give."""
        if self.rows == 0:
            return 0.0
        return float(np.log(max(self.rows, _FEWEST_ROWS) / max(rows, _FEWEST_ROWS)))

    def refuse_other(self, meta: StoreMeta, path: object) -> None:
        """Refuses a store of another backbone.

        Raises:
            EmbedkitError: The embeddings were made otherwise.
        """
        mine = self.backbone, self.weights_fingerprint, dict(self.pooling)
        if mine != (meta.backbone, meta.weights_fingerprint, dict(meta.pooling)):
            raise EmbedkitError(
                f"{path}: embedded with {meta.backbone}, but the calibration {self.name!r} is for "
                f"{self.backbone} with other weights or pooling: 'embedkit dedup calibrate' makes "
                "one for this store"
            )

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "backbone": self.backbone,
            "weights_fingerprint": self.weights_fingerprint,
            "pooling": dict(self.pooling),
            "rows": self.rows,
            "plain": self.plain.to_config(),
            "checked": self.checked.to_config(),
            "thresholds": [list(row) for row in self.thresholds],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """What ``to_config`` gave.

        Raises:
            ValueError: It doesn't describe a calibration.
        """
        values: dict[str, Any] = dict(config)
        if values.pop("format", None) != _FORMAT:
            raise ValueError(f"not of the format {_FORMAT}")
        try:
            for name in ("plain", "checked"):
                values[name] = LogisticModel.from_config(values[name])
            values["thresholds"] = tuple(
                (float(a), float(b), float(c)) for a, b, c in values["thresholds"]
            )
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"not a calibration: {exc!r}") from exc

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, which replaces another one when it is whole.

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
    """The calibration that comes with embedkit for a store's backbone, if there is one."""
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
    """A guess, named ``none``, for a backbone that there is no calibration for.

    Of images whose perceptual hashes say nothing, a cosine of 0.94 is as likely a copy's as not;
    of images with equal hashes, one of 0.86; whatever the number of images.
    """
    plain = LogisticModel(
        FEATURES, (0.92, 0.0, 0.0, 24.0), (0.02, 1.0, 1.0, 8.0), (1.0, 0.0, 0.0, -1.0), 0.0
    )
    checked = LogisticModel(
        CHECKED_FEATURES, (0.0, 2.3, 0.7, 0.5), (1.0, 0.3, 0.1, 0.1), (0.5, 1.0, 1.0, 1.0), 0.0
    )
    return Calibration(
        "none", meta.backbone, meta.weights_fingerprint, meta.pooling, 0, plain,
        checked, ((1.0, 0.5, 0.5),),
    )  # fmt: skip


def evidence_columns(evidence: list[Evidence]) -> dict[str, NDArray[np.float64]]:
    """What pixels tell, as features: ``(n,)`` each."""
    inliers = np.array([one.inliers for one in evidence], np.float64)
    correlation = np.array([one.correlation for one in evidence], np.float64)
    # Another photograph of the same thing has keypoints in common, but doesn't agree all over; a
    # map of few keypoints may be chance, so its correlation counts by how many there are.
    trust = np.clip((correlation - _DOUBTFUL) / (_SURE - _DOUBTFUL), 0, 1)
    return {
        "inliers": np.log1p(np.minimum(inliers, 100) * trust),
        "correlation": np.maximum(correlation, 0) * np.minimum(inliers / 12, 1),
        "whole": np.maximum(np.array([one.whole for one in evidence], np.float64), 0) ** 2,
    }
