"""``embedkit info``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._output import count_of, plain, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedkit.store import EmbeddingStore

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit info photos.h5",
    "embedkit info photos.h5 --failures",
    "embedkit info photos.index",
    "embedkit info photos.h5 --json",
)

_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")


def command(
    path: Annotated[
        Path,
        typer.Argument(help="Store, index, probe, folder of duplicates or calibration."),
    ],
    failures: Annotated[
        bool, typer.Option("--failures", help="List every failed image, not only the counts.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Describe a store (settings, size, what failed and why), an index or another result."""
    from embedkit.store import EmbeddingStore
    from embedkit.store.detect import kind_of_path

    kind = kind_of_path(path)
    if kind in _OTHERS:
        facts = {"path": str(path), "kind": kind, **_OTHERS[kind](path)}
        if json:
            print_json(facts)
        else:
            _print_lines({name.replace("_", " "): _plain_fact(v) for name, v in facts.items()})
        return
    with EmbeddingStore.open(path) as opened:
        info = _describe(opened)
    if json:
        print_json(info)
        return
    _print_facts(info)
    if info["failed"]:
        typer.echo(f"\n{count_of(info['failed'], 'image')} failed")
    if failures:
        print_table(("image", "bytes", "reason"), [tuple(row.values()) for row in info["failures"]])
    elif info["failures"]:
        counted = sorted(info["failures_by_reason"].items(), key=lambda item: (-item[1], item[0]))
        print_table(("images", "reason"), [(count, reason) for reason, count in counted])


def _describe_index(path: Path) -> dict[str, Any]:
    from embedkit.index import Index

    with Index.open(path, check="fast") as index:
        manifest = index.manifest
        return {
            "embeddings": len(index),
            "removed": manifest.removed,
            "dim": index.dim,
            "factory": index.factory,
            "metric": index.metric,
            "reranked": manifest.rerank,
            "on_disk": manifest.on_disk,
            "bytes_per_vector": manifest.bytes_per_vector,
            "recall_at_10": index.chosen and index.chosen.recall_at_10,
            "ms_per_query": index.chosen and index.chosen.ms,
            "stores": [entry.path for entry in manifest.stores],
            "backbone": index.meta.backbone,
            "embedkit_version": manifest.embedkit_version,
        }


def _describe_probe(path: Path) -> dict[str, Any]:
    from embedkit import load_probe

    probe = load_probe(path)
    return {
        "type": probe.kind,
        "task": probe.task,
        "classes": len(probe.names),
        "normalized": probe.normalize,
        **probe.settings(),
        "backbone": probe.meta.backbone,
    }


def _describe_duplicates(path: Path) -> dict[str, Any]:
    from embedkit import read_duplicates
    from embedkit.dedup.output.summary import count

    found = read_duplicates(path)
    return {
        "store": found.store.path,
        "against": found.against and found.against.path,
        "threshold": found.pairs.info.threshold,
        "mode": found.pairs.info.mode,
        "linkage": found.linkage,
        **count(found),
    }


def _describe_calibration(path: Path) -> dict[str, Any]:
    from embedkit import Calibration

    found = Calibration.load(path)
    return {"name": found.name, "backbone": found.backbone, "images": found.rows}


_OTHERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "index": _describe_index,
    "probe": _describe_probe,
    "duplicates": _describe_duplicates,
    "calibration": _describe_calibration,
}


def _plain_fact(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _describe(store: EmbeddingStore) -> dict[str, Any]:
    failures = [
        {"id": failure.id, "nbytes": failure.nbytes, "reason": failure.reason}
        for failure in store.failures()
    ]
    counts, head, labels = store.counts, store.head, store.labels
    folder = store.path if store.path.is_dir() else store.path.parent
    return {
        "path": store.address,
        "bytes": sum((folder / shard.name).stat().st_size for shard in store.shards),
        "shards": len(store.shards),
        "rows": len(store),
        "found": counts.found,
        "embedded": counts.embedded,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "classes": None if head is None else len(head.class_names),
        "labels": None if labels is None else len(set(labels) - {""}),
        "unlabelled": len(store) if labels is None else labels.count(""),
        "thumbnails": "thumbnail" in store.columns,
        **store.meta.to_config(),
        "annotations": store.annotations,
        "failures_by_reason": _by_reason(str(failure["reason"]) for failure in failures),
        "failures": failures,
    }


def _by_reason(reasons: Iterable[str]) -> dict[str, int]:
    """Counts the reasons; those that differ in their numbers alone are one, with N for these."""
    groups: dict[str, list[str]] = defaultdict(list)
    for reason in reasons:
        groups[_NUMBER.sub("N", reason)].append(reason)
    return {
        group[0] if len(set(group)) == 1 else shape: len(group) for shape, group in groups.items()
    }


def _print_facts(info: dict[str, Any]) -> None:
    head = "none" if info["classes"] is None else f"{info['classes']:,} classes"
    if info["classes"] is not None and not info["head_applies"]:
        head += " (doesn't fit these embeddings)"
    engine = info["engine"]
    labels = "none" if info["labels"] is None else f"{info['labels']:,} different"
    if info["labels"] is not None and info["unlabelled"]:
        labels += f"; {info['unlabelled']:,} of {count_of(info['rows'], 'image')} have none"
    files = count_of(info["shards"], "file")
    lines = {
        "store": f"{info['path']} ({files}, {info['bytes'] / 1e6:.1f} MB)",
        "embeddings": f"{info['rows']:,} x {info['feature_dim']} {info['dtype']}"
        + (", unit length" if info["normalized"] else ""),
        "images": f"{info['found']:,} found = {info['embedded']:,} embedded"
        f" + {info['failed']:,} failed + {info['skipped']:,} skipped",
        "backbone": f"{info['backbone']} ({info['weights']})",
        "fingerprint": info["weights_fingerprint"],
        "licence": info["licence"],
        "preprocessing": _settings(info["preprocessing"]),
        "pooling": _settings(info["pooling"]),
        "decoding": _settings(info["decode"]),
        "engine": _settings({k: v for k, v in engine.items() if k != "fidelity"}),
        **({"fidelity": _settings(engine["fidelity"])} if "fidelity" in engine else {}),
        "head": head,
        "labels": labels,
        "thumbnails": "32 x 32 pixels, gray" if info["thumbnails"] else "none",
        **({"columns": _named(info["annotations"])} if info["annotations"] else {}),
        "source": ", ".join(info["source"]),
        "plan": info["plan_hash"],
        "made by": f"embedkit {info['embedkit_version']}"
        + (f", updated {count_of(info['generation'], 'time')}" if "generation" in info else ""),
    }
    _print_lines(lines)


def _print_lines(lines: dict[str, str]) -> None:
    width = max(15, *(len(name) + 2 for name in lines))
    for name, text in lines.items():
        typer.echo(f"{name + ':':{width}}{plain(text)}")


def _named(annotations: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in annotations.items())


def _settings(config: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in config.items() if value is not None)
