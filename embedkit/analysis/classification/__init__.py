"""Classification of stored embeddings: top classes and accuracy."""

from embedkit.analysis.classification.classify import ClassifiedBatch, classify
from embedkit.analysis.classification.evaluate import Evaluation, evaluate
from embedkit.analysis.classification.results_file import classify_to_file

__all__ = ["ClassifiedBatch", "Evaluation", "classify", "classify_to_file", "evaluate"]
