"""Image embeddings: extract, store, search, deduplicate, and learn from them.

All that is public is here; nothing else is. Importing this package loads neither torch nor faiss
nor h5py: each name is imported when it is first used.

    import embedkit

    embedkit.embed(["cat.jpg", image, array], backbone="efficientnet_lite0")  # (3, D) float32
    embedkit.extract("photos/", "photos.h5", backbone="efficientnet_lite0")
    embedkit.Index.build("photos.h5", "photos.index")
    embedkit.search("photos.index", "new.jpg", k=5)
    embedkit.find_duplicates("photos.h5", verify=True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from embedkit._version import __version__
from embedkit.errors import (
    BackboneError,
    DecodeError,
    DedupError,
    EmbedkitError,
    IndexCorruptError,
    IndexFileError,
    IndexMismatchError,
    MissingExtraError,
    NothingEmbeddedError,
    ServiceError,
    SourceError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
    StoreMismatchError,
    UnknownBackboneError,
    WeightsError,
    WorkerError,
)

if TYPE_CHECKING:
    from embedkit.analysis.classification.classify import classify
    from embedkit.analysis.classification.evaluate import evaluate
    from embedkit.analysis.classification.results_file import classify_to_file
    from embedkit.analysis.clustering.cluster import Clusters, cluster
    from embedkit.analysis.clustering.results_file import write_clusters
    from embedkit.analysis.embedding_map.plot import plot
    from embedkit.analysis.outliers.outliers import find_outliers
    from embedkit.analysis.quality.issues import (
        QualityReport,
        QualityThresholds,
        find_quality_issues,
    )
    from embedkit.analysis.quality.output import write_quality
    from embedkit.analysis.selection.coverage import Coverage, measure_coverage
    from embedkit.analysis.selection.results_file import write_selection, write_subset
    from embedkit.analysis.selection.select import select
    from embedkit.analysis.selection.subset import Subset, select_subset
    from embedkit.backbones.backbone import load_backbone
    from embedkit.backbones.registry import BACKBONES
    from embedkit.client import Client, RemoteCopy, RemoteImage, RemoteNeighbor
    from embedkit.decode.exact import decode_image
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.dedup.api import find_duplicates
    from embedkit.dedup.check import check_duplicates
    from embedkit.dedup.cleanup.apply import apply_plan, purge_journal, undo_journal
    from embedkit.dedup.cleanup.plan import PlanRow, make_plan
    from embedkit.dedup.cleanup.plan_csv import read_plan, write_plan
    from embedkit.dedup.output.folder import read_duplicates, write_duplicates
    from embedkit.dedup.pairs import Pairs
    from embedkit.dedup.results import Duplicates, rethreshold
    from embedkit.dedup.scoring.calibrate import calibrate
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.semantic.semdedup import SemanticSelection, semantic_dedup
    from embedkit.dedup.update import update_duplicates
    from embedkit.exporters.export import export
    from embedkit.extraction.dry_run import preview
    from embedkit.extraction.embed import embed
    from embedkit.extraction.extract import extract
    from embedkit.extraction.runner import ExtractResult
    from embedkit.extraction.update_outcome import UpdateResult
    from embedkit.index.index import Index
    from embedkit.index.spec import IndexSpec
    from embedkit.index.store_update import IndexUpdate
    from embedkit.probe.predict import predict
    from embedkit.probe.run import ProbeResult, run_probe
    from embedkit.probe.serialization import load_probe, save_probe
    from embedkit.retrieval.results_file import search_to_file
    from embedkit.retrieval.search import search
    from embedkit.store.annotate import AnnotationSummary, annotate
    from embedkit.store.format import StoreMeta
    from embedkit.store.label import LabelSummary, label
    from embedkit.store.merge import merge
    from embedkit.store.store import EmbeddingStore
    from embedkit.store.verify import verify
    from embedkit.types import Head, ImageFailure, Neighbors, SearchResult
    from embedkit.utils.progress import Progress

__all__ = [
    "BACKBONES",
    "AnnotationSummary",
    "BackboneError",
    "Calibration",
    "Client",
    "Clusters",
    "Coverage",
    "DecodeError",
    "DecodePolicy",
    "DedupError",
    "Duplicates",
    "EmbeddingStore",
    "EmbedkitError",
    "ExtractResult",
    "Head",
    "ImageFailure",
    "Index",
    "IndexCorruptError",
    "IndexFileError",
    "IndexMismatchError",
    "IndexSpec",
    "IndexUpdate",
    "LabelSummary",
    "MissingExtraError",
    "Neighbors",
    "NothingEmbeddedError",
    "Pairs",
    "PlanRow",
    "Preprocessing",
    "ProbeResult",
    "Progress",
    "QualityReport",
    "QualityThresholds",
    "RemoteCopy",
    "RemoteImage",
    "RemoteNeighbor",
    "SearchResult",
    "SemanticSelection",
    "ServiceError",
    "SourceError",
    "StoreCorruptError",
    "StoreError",
    "StoreFormatError",
    "StoreLockedError",
    "StoreMeta",
    "StoreMismatchError",
    "Subset",
    "UnknownBackboneError",
    "UpdateResult",
    "WeightsError",
    "WorkerError",
    "__version__",
    "annotate",
    "apply_plan",
    "calibrate",
    "check_duplicates",
    "classify",
    "classify_to_file",
    "cluster",
    "decode_image",
    "embed",
    "evaluate",
    "export",
    "extract",
    "find_duplicates",
    "find_outliers",
    "find_quality_issues",
    "label",
    "load_backbone",
    "load_probe",
    "make_plan",
    "measure_coverage",
    "merge",
    "plot",
    "predict",
    "preview",
    "purge_journal",
    "read_duplicates",
    "read_plan",
    "rethreshold",
    "run_probe",
    "save_probe",
    "search",
    "search_to_file",
    "select",
    "select_subset",
    "semantic_dedup",
    "undo_journal",
    "update_duplicates",
    "verify",
    "write_clusters",
    "write_duplicates",
    "write_plan",
    "write_quality",
    "write_selection",
    "write_subset",
]

import_module("embedkit.utils.telemetry").switch_off_telemetry()  # before any other import

_HOMES = {
    "BACKBONES": "embedkit.backbones.registry",
    "AnnotationSummary": "embedkit.store.annotate",
    "Calibration": "embedkit.dedup.scoring.calibration",
    "Client": "embedkit.client",
    "Clusters": "embedkit.analysis.clustering.cluster",
    "Coverage": "embedkit.analysis.selection.coverage",
    "DecodePolicy": "embedkit.decode.policy",
    "Duplicates": "embedkit.dedup.results",
    "EmbeddingStore": "embedkit.store.store",
    "ExtractResult": "embedkit.extraction.runner",
    "Head": "embedkit.types",
    "ImageFailure": "embedkit.types",
    "Index": "embedkit.index.index",
    "IndexSpec": "embedkit.index.spec",
    "IndexUpdate": "embedkit.index.store_update",
    "LabelSummary": "embedkit.store.label",
    "Neighbors": "embedkit.types",
    "Pairs": "embedkit.dedup.pairs",
    "PlanRow": "embedkit.dedup.cleanup.plan",
    "Preprocessing": "embedkit.decode.preprocessing",
    "ProbeResult": "embedkit.probe.run",
    "Progress": "embedkit.utils.progress",
    "QualityReport": "embedkit.analysis.quality.issues",
    "QualityThresholds": "embedkit.analysis.quality.issues",
    "RemoteCopy": "embedkit.client",
    "RemoteImage": "embedkit.client",
    "RemoteNeighbor": "embedkit.client",
    "SearchResult": "embedkit.types",
    "SemanticSelection": "embedkit.dedup.semantic.semdedup",
    "StoreMeta": "embedkit.store.format",
    "Subset": "embedkit.analysis.selection.subset",
    "UpdateResult": "embedkit.extraction.update_outcome",
    "annotate": "embedkit.store.annotate",
    "apply_plan": "embedkit.dedup.cleanup.apply",
    "calibrate": "embedkit.dedup.scoring.calibrate",
    "check_duplicates": "embedkit.dedup.check",
    "classify": "embedkit.analysis.classification.classify",
    "classify_to_file": "embedkit.analysis.classification.results_file",
    "cluster": "embedkit.analysis.clustering.cluster",
    "decode_image": "embedkit.decode.exact",
    "embed": "embedkit.extraction.embed",
    "evaluate": "embedkit.analysis.classification.evaluate",
    "export": "embedkit.exporters.export",
    "extract": "embedkit.extraction.extract",
    "find_duplicates": "embedkit.dedup.api",
    "find_outliers": "embedkit.analysis.outliers.outliers",
    "find_quality_issues": "embedkit.analysis.quality.issues",
    "label": "embedkit.store.label",
    "load_backbone": "embedkit.backbones.backbone",
    "load_probe": "embedkit.probe.serialization",
    "make_plan": "embedkit.dedup.cleanup.plan",
    "measure_coverage": "embedkit.analysis.selection.coverage",
    "merge": "embedkit.store.merge",
    "plot": "embedkit.analysis.embedding_map.plot",
    "predict": "embedkit.probe.predict",
    "preview": "embedkit.extraction.dry_run",
    "purge_journal": "embedkit.dedup.cleanup.apply",
    "read_duplicates": "embedkit.dedup.output.folder",
    "read_plan": "embedkit.dedup.cleanup.plan_csv",
    "rethreshold": "embedkit.dedup.results",
    "run_probe": "embedkit.probe.run",
    "save_probe": "embedkit.probe.serialization",
    "search": "embedkit.retrieval.search",
    "search_to_file": "embedkit.retrieval.results_file",
    "select": "embedkit.analysis.selection.select",
    "select_subset": "embedkit.analysis.selection.subset",
    "semantic_dedup": "embedkit.dedup.semantic.semdedup",
    "undo_journal": "embedkit.dedup.cleanup.apply",
    "update_duplicates": "embedkit.dedup.update",
    "verify": "embedkit.store.verify",
    "write_clusters": "embedkit.analysis.clustering.results_file",
    "write_selection": "embedkit.analysis.selection.results_file",
    "write_subset": "embedkit.analysis.selection.results_file",
    "write_duplicates": "embedkit.dedup.output.folder",
    "write_plan": "embedkit.dedup.cleanup.plan_csv",
    "write_quality": "embedkit.analysis.quality.output",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'embedkit' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
