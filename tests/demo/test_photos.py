from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from embedkit.demo import photos
from embedkit.demo.photos import EDITS, gather_images
from embedkit.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path


def make_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{number}.png")
    return folder


def test_demo_does_not_eat_itself(tmp_path: Path) -> None:
    mine = make_photos(tmp_path / "mine", 2)
    output = mine / "demo"
    first = gather_images(output / "images", mine)
    again = gather_images(output / "images2", mine)
    assert len(first.photos) == len(again.photos) == 2


def test_more_images_than_the_demo_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_IMAGES", 3)
    mine = make_photos(tmp_path / "mine", 5)
    gathered = gather_images(tmp_path / "out" / "images", mine)
    assert (len(gathered.photos), gathered.left_out) == (3, 2)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        gather_images(tmp_path / "out" / "images", tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no image"):
        gather_images(tmp_path / "out" / "images", tmp_path / "empty")


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [(1, 1), (640, 400)])
def test_edits_of_any_size(name: str, size: tuple[int, int]) -> None:
    assert EDITS[name](Image.new("RGB", size))[:2] == b"\xff\xd8"
