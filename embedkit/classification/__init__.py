"""Classes from stored embeddings: the likeliest ones, how often they are right."""

from embedkit.classification.classes import ClassifiedBatch, classify
from embedkit.classification.evaluation import Evaluation, evaluate
from embedkit.classification.files import classify_to_file

__all__ = ["ClassifiedBatch", "Evaluation", "classify", "classify_to_file", "evaluate"]
