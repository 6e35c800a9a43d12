"""Charts: values lie in order within the frame, and the confusion matrix shows where they are."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from embedkit.report.charts import Chart, ConfusionChart, Series


def chart(*points, marked=None):
    return Chart("t", "n", "x", [Series("a", points)], marked)


def test_points_lie_in_the_frame_in_order():
    ((_, points),) = chart((1, 0.5, 0.1), (2, 0.7, 0.0), (4, 0.9, 0.2)).lines()
    (x1, y1, low, high), (x2, y2, *_), (x3, y3, _, top) = points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)  # a logarithmic axis
    assert y1 > y2 > y3
    assert low > y1 > high
    assert top >= 10  # error bars end at 1


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.9, 1.0), ["0.9", "0.92", "0.94", "0.96", "0.98", "1"]),
        ((0.5, 0.5), ["0.5", "0.51"]),
        ((-3000.0, 0.5), ["-3000", "-2000", "-1000", "0", "1000"]),
        ((0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_round_ticks(values, labels):
    drawn = chart(*((float(k + 1), value, 0.0) for k, value in enumerate(values)))
    assert [label for _, label in drawn.y_ticks()] == labels
    places = [y for y, _ in drawn.y_ticks()]
    assert places == sorted(places, reverse=True)


def test_ticks_of_the_values_or_of_powers():
    assert [label for _, label in chart((1, 0, 0), (5, 1, 0)).x_ticks()] == ["1", "5"]
    many = chart(*((10.0**k, 0.5, 0.0) for k in np.linspace(-6, 5, 45)))
    assert [label for _, label in many.x_ticks()] == [
        "1e-06",
        "0.0001",
        "0.01",
        "1",
        "100",
        "10000",
    ]


def test_a_single_value_has_a_place():
    drawn = chart((3, 0.5, 0.0), marked=3)
    assert drawn.place_x(3) == drawn.lines()[0][1][0][0]


def test_confusion_is_opaque_where_images_are():
    counts = np.array([[9, 1, 0], [0, 4, 0], [0, 0, 0]])
    made = ConfusionChart.of(counts, ["a", "b", "c"])
    data = base64.b64decode(made.image.split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    assert ((pixels[..., 3] > 0) == (counts > 0)).all()
    assert pixels[0, 0, 2] > pixels[0, 0, 0]  # right is blue
    assert pixels[0, 1, 0] > pixels[0, 1, 2]  # wrong is red
    assert pixels[1, 1, 3] > pixels[0, 0, 3] > pixels[0, 1, 3]
    assert made.are_named
    assert not ConfusionChart.of(np.eye(61, dtype=int), ["x"] * 61).are_named
