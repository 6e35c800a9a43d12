"""``embedkit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._embedding import (
    BackboneOption,
    BatchOption,
    DeviceOption,
    EngineName,
    EngineOption,
    WeightsOption,
    WorkersOption,
    open_inputs,
    print_failures,
)
from ._output import ExitCode, count_of, plain, print_json, print_table
from ._panels import OUTPUT

if TYPE_CHECKING:
    from embedkit.analysis.classification import Evaluation

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit evaluate imagenet/val/ --store val.h5",
    "embedkit evaluate val.h5 --worst 20",
    "embedkit evaluate imagenet-a.h5 --class-subset imagenet_a_synsets.txt",
    "embedkit evaluate val.h5 --real real.json",
)


def command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="One store (.h5), or images, such as the folder of ImageNet's validation set.",
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Option(
            help="For images: keep the embeddings in this store, and resume an interrupted run.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    class_subset: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Predict only the classes in this file: synset, name or number, one per line.",
        ),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="ReaL's real.json: several right classes per image of ImageNet's validation set.",
        ),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst classes to list.")] = 0,
    backbone: BackboneOption = "resnet50_swsl",
    weights: WeightsOption = "auto",
    engine: EngineOption = EngineName.AUTO,
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Measure top-1 and top-5 accuracy against labels, beside the published figures.

    The class of an image is its label (synset, name or number), else the synset in its path.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    from embedkit.analysis.classification import evaluate
    from embedkit.analysis.classification.published_accuracy import published_accuracies

    with open_inputs(
        inputs,
        backbone=backbone,
        weights=weights,
        engine=engine,
        device=device,
        batch_size=batch_size,
        workers=workers,
        keep=store,
    ) as stored:
        if len(stored.stores) != 1:
            raise ValueError(
                f"one store at a time, not {len(stored.stores)}: 'embedkit merge' joins"
            )
        found = evaluate(stored.stores[0], class_subset=class_subset, real=real)
    published = {}
    if class_subset is None and real is None:
        published = published_accuracies(found.meta)
    if json:
        print_json(_as_json(found, published))
    else:
        _print(found, worst, published)
    print_failures(stored)
    if stored.failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _print(found: Evaluation, worst: int, published: dict[str, tuple[float, float]]) -> None:
    counted = count_of(found.top1.of, "image")
    typer.echo(f"{plain(found.meta.backbone)} ({plain(found.meta.weights)}), {counted}")
    rows: list[tuple[object, ...]] = []
    for number, (name, one) in enumerate((("top-1", found.top1), ("top-5", found.top5))):
        low, high = one.interval
        beside = [f"{both[number]:.2f}" for both in published.values()]
        rows.append((name, f"{one.percent:.2f}", f"{low:.2f} to {high:.2f}", *beside))
    rows.append(("mean per class", f"{found.mean_per_class:.2f}", None, *[None] * len(published)))
    print_table(("accuracy, %", "here", "95% interval", *published), rows)
    if found.unlabelled or found.failed:
        typer.echo(f"left out: {found.unlabelled:,} of unknown class, {found.failed:,} failed")
    if worst:
        typer.echo()
        lowest = sorted(found.classes, key=lambda one: one.top1.percent)[:worst]
        print_table(
            ("worst, top-1 %", "right", "of", "id", "class"),
            [
                (f"{c.top1.percent:.1f}", c.top1.right, c.top1.of, c.class_id or None, c.class_name)
                for c in lowest
            ],
        )


def _as_json(found: Evaluation, published: dict[str, tuple[float, float]]) -> dict[str, Any]:
    return {
        "backbone": found.meta.backbone,
        "weights": found.meta.weights,
        **{
            name: {
                "percent": one.percent,
                "right": one.right,
                "of": one.of,
                "interval": one.interval,
            }
            for name, one in (("top1", found.top1), ("top5", found.top5))
        },
        "mean_per_class": found.mean_per_class,
        "unlabelled": found.unlabelled,
        "failed": found.failed,
        "published": {
            name: {"top1": top1, "top5": top5} for name, (top1, top5) in published.items()
        },
        "classes": [
            {"id": c.class_id, "name": c.class_name, "right": c.top1.right, "of": c.top1.of}
            for c in found.classes
        ],
    }
