"""The quality of stored images: measures, issues, a report."""

from embedkit.analysis.quality.issues import (
    Issue,
    QualityReport,
    QualityThresholds,
    find_quality_issues,
)
from embedkit.analysis.quality.output import check_quality_output, summary_of, write_quality

__all__ = [
    "Issue",
    "QualityReport",
    "QualityThresholds",
    "check_quality_output",
    "find_quality_issues",
    "summary_of",
    "write_quality",
]
