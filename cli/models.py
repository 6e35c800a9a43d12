"""``embedkit models``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import typer

from ._command import JsonOption, examples
from ._output import print_json, print_table

if TYPE_CHECKING:
    from embedkit.backbones import BackboneSpec

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit models",
    "embedkit models --json",
)

_HEADER = (
    "name",
    "trained",
    "dim",
    "params M",
    "headless M",
    "GMACs",
    "paper top-1/5",
    "timm top-1/5",
    "licence",
    "weights",
)


def command(json: JsonOption = False) -> None:
    """List the backbones: size, accuracy, licence, and whether the weights are on disk."""
    from embedkit.backbones import BACKBONES, weights_on_disk

    found = {spec.name: weights_on_disk(spec) for spec in BACKBONES.values()}
    if json:
        print_json([_describe(spec, found[spec.name]) for spec in BACKBONES.values()])
        return
    print_table(_HEADER, [_row(spec, found[spec.name]) for spec in BACKBONES.values()])
    for spec in BACKBONES.values():
        if spec.warning:
            typer.echo(f"\n{spec.name}: {spec.warning}")
    typer.echo(
        "\nCC-BY-NC-4.0 weights are not for commercial use. 'timm:NAME' selects another timm model."
    )


def _row(spec: BackboneSpec, path: object) -> tuple[object, ...]:
    weights = "on disk" if path else "random" if spec.source == "none" else "to download"
    return (
        spec.name + (" (!)" if spec.warning else ""),
        spec.supervision.split(":")[0],
        spec.feature_dim,
        f"{spec.params_m:.2f}",
        f"{spec.params_backbone_m:.2f}",
        f"{spec.gmacs:.2f}",
        _accuracy(spec.paper_top1, spec.paper_top5, 1),
        _accuracy(spec.timm_top1, spec.timm_top5, 2),
        spec.licence,
        weights,
    )


def _accuracy(top1: float | None, top5: float | None, digits: int) -> str | None:
    if top1 is None or top5 is None:
        return None
    return f"{top1:.{digits}f} {top5:.{digits}f}"


def _describe(spec: BackboneSpec, path: object) -> dict[str, Any]:
    info = dataclasses.asdict(spec)
    return {**info, "weights_path": None if path is None else str(path)}
