"""``embedkit info``."""

from __future__ import annotations

import re
from collections import defaultdict
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
    "embedkit info photos.h5 --json",
)

_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    failures: Annotated[
        bool, typer.Option("--failures", help="List every failed image, not only the counts.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Describe a store: settings, size, and what failed and why."""
    from embedkit.store import EmbeddingStore

    with EmbeddingStore.open(store) as opened:
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


def _describe(store: EmbeddingStore) -> dict[str, Any]:
    failures = [
        {"id": failure.id, "nbytes": failure.nbytes, "reason": failure.reason}
        for failure in store.failures()
    ]
    counts, head, labels = store.counts, store.head, store.labels
    folder = store.path if store.path.is_dir() else store.path.parent
    return {
        "path": str(store.path),
        "bytes": sum((folder / shard.name).stat().st_size for shard in store.shards),
        "shards": len(store.shards),
        "rows": len(store),
        "found": counts.found,
        "embedded": counts.embedded,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "classes": None if head is None else len(head.class_names),
        "labels": None if labels is None else len(set(labels) - {""}),
        **store.meta.to_config(),
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
        "source": ", ".join(info["source"]),
        "plan": info["plan_hash"],
        "made by": f"embedkit {info['embedkit_version']}",
    }
    for name, text in lines.items():
        typer.echo(f"{name + ':':15}{plain(text)}")


def _settings(config: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in config.items() if value is not None)
