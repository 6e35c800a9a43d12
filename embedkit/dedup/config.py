"""The settings of a near-duplicate search."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.scoring.calibration import PRECISION

if TYPE_CHECKING:
    from embedkit.dedup.groups.grouping import Linkage
    from embedkit.dedup.scoring.calibration import Calibration

__all__ = ["CANDIDATES_PER_IMAGE", "DedupConfig", "Mode", "What", "check_scoring"]

Mode = Literal["auto", "exact", "approximate"]
What = Literal["copies", "scenes"]

CANDIDATES_PER_IMAGE = 30.0
"""Images that each image is scored with, on average, beside its copies."""


@dataclass(frozen=True, slots=True)
class DedupConfig:
    """The settings of a search, as the keywords of ``find_duplicates``, which describes them.

    Attributes:
        threshold: The least score; None takes the calibration's threshold for ``precision``.
        precision: Target share of the returned pairs that are copies.
        mode: ``exact``, ``approximate`` or ``auto``.
        calibration: The models that score; None takes the built-in one; ``cosine`` needs none.
        min_cosine: The least cosine of a candidate; None chooses.
        max_hamming: The most differing bits of a candidate's perceptual hashes; None: any.
        candidates_per_image: Others that each image is scored with, on average.
        max_pairs: More candidates are refused.
        verify: Whether doubtful pairs are verified geometrically.
        flip: Whether to find mirrored copies.
        rotate: Whether to find rotated copies.
        linkage: How pairs become groups.
        what: ``copies`` of one image, or ``scenes``: other photographs of one scene as well.

    Raises:
        ValueError: A setting is out of its range, or two don't go together.
    """

    threshold: float | None = None
    precision: float = PRECISION
    mode: Mode = "auto"
    calibration: Calibration | Literal["cosine"] | None = None
    min_cosine: float | None = None
    max_hamming: int | None = 7
    candidates_per_image: float = CANDIDATES_PER_IMAGE
    max_pairs: int = MAX_PAIRS
    verify: bool = False
    flip: bool = False
    rotate: bool = False
    linkage: Linkage = "single"
    what: What = "copies"

    def __post_init__(self) -> None:
        check_scoring(self.threshold, self.precision, self.max_hamming)
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {self.mode!r}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise ValueError(f"min_cosine must be from -1 to 1, not {self.min_cosine}")
        if not self.candidates_per_image >= 0:
            raise ValueError(
                f"candidates_per_image must not be negative: {self.candidates_per_image}"
            )
        if self.what not in get_args(What):
            raise ValueError(f"what must be copies or scenes, not {self.what!r}")
        pixels = self.verify or self.what == "scenes"
        if self.calibration == "cosine" and (pixels or self.flip or self.rotate):
            raise ValueError('calibration="cosine" compares embeddings alone: no pixels, no views')

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold, as ``summary.json`` names them."""
        config = {field.name: getattr(self, field.name) for field in fields(self)}
        config["calibration"] = getattr(self.calibration, "name", self.calibration)
        config["looks"] = config.pop("candidates_per_image")  # its first name, in older files
        return config


def check_scoring(threshold: float | None, precision: float, max_hamming: int | None) -> None:
    """Refuses numbers outside their ranges, before any work.

    Raises:
        ValueError: A number is outside its range.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1, not {threshold}")
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
    if max_hamming is not None and not 0 <= max_hamming <= 64:
        raise ValueError(f"max_hamming must be from 0 to 64, not {max_hamming}")
