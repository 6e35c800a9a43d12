"""Keypoints vote for pairs of images that embeddings know nothing of."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from images import draw_photo
from PIL import Image, ImageOps

pytest.importorskip("cv2")

import embedkit
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.find_pairs import find_pairs
from embedkit.dedup.verification import keypoint_votes
from embedkit.dedup.verification.keypoint_votes import voted_pairs
from embedkit.dedup.verification.keypoints import Keypoints, find_keypoints
from embedkit.store import EmbeddingStore

SCENES = 24
SIZE = (360, 270)


def scene(seed: int) -> Image.Image:
    """A photograph with details everywhere."""
    coarse = np.random.default_rng(seed).normal(128, 50, (68, 90)).clip(0, 255).astype(np.uint8)
    grain = np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC), int)
    pixels = np.asarray(draw_photo(seed, SIZE), int) + grain[..., None] - 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def cropped(image: Image.Image) -> Image.Image:
    """A third of its width and of its height."""
    return image.crop((180, 90, 300, 180))


def edited(image: Image.Image, number: int) -> Image.Image:
    edits = cropped, ImageOps.mirror, lambda one: one.rotate(25), ImageOps.invert
    return edits[number % len(edits)](image)


def keypoints_of(image: Image.Image) -> Keypoints:
    return find_keypoints(np.asarray(image.convert("L")))


@pytest.fixture(scope="module")
def found() -> list[Keypoints]:
    """Of the scenes, then of an edited copy of each."""
    scenes = [scene(seed) for seed in range(SCENES)]
    return [keypoints_of(one) for one in (*scenes, *map(edited, scenes, range(SCENES)))]


def reader(found: list[Keypoints | None]):
    return lambda images: [found[image] for image in images]


def pairs_of(voted: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(voted[0].tolist(), voted[1].tolist(), strict=True))


def is_copy(pair: tuple[int, int]) -> bool:
    return pair[1] - pair[0] == SCENES


def test_copies_get_the_most_votes(found: list[Keypoints]) -> None:
    pairs = pairs_of(voted_pairs(reader(found), range(len(found)), None))
    without_inverted = [pair for pair in range(SCENES) if pair % 4 != 3]
    assert {pair[0] for pair in filter(is_copy, pairs)} >= set(without_inverted)
    likeliest = pairs[: len(without_inverted)]
    assert sum(map(is_copy, likeliest)) >= 0.9 * len(likeliest)
    assert len(set(pairs)) == len(pairs)
    assert all(first < second for first, second in pairs)


def test_of_two_stores_only_pairs_of_both_are_voted_for(found: list[Keypoints]) -> None:
    twice = [*found, *found[:SCENES]]  # the other store's: equal ones among them
    pairs = pairs_of(voted_pairs(reader(twice), range(len(twice)), SCENES))
    assert all(first < SCENES <= second for first, second in pairs)
    assert {(image, image + 2 * SCENES) for image in range(SCENES)} <= set(pairs)


def test_images_without_keypoints_are_in_no_pair(found: list[Keypoints]) -> None:
    some: list[Keypoints | None] = [*found]
    some[3], some[5] = None, keypoints_of(Image.new("RGB", SIZE))
    pairs = pairs_of(voted_pairs(reader(some), range(len(some)), None))
    assert pairs
    assert not {3, 5} & {image for pair in pairs for image in pair}


@pytest.mark.parametrize("none", [None, keypoints_of(Image.new("RGB", SIZE))])
def test_where_next_to_nothing_has_keypoints_there_are_no_pairs(none: Keypoints | None) -> None:
    assert pairs_of(voted_pairs(reader([none] * 50), range(50), None)) == []


def test_the_index_finds_what_all_products_find(found: list[Keypoints]) -> None:
    index = keypoint_votes._Index.trained(found, len(found))
    assert index is not None
    known = index.described(range(len(found)), found)
    index.add(known)
    asked = known.where(known.image < 4)
    products = asked.values.astype(np.float32) @ known.values.astype(np.float32).T
    products[np.arange(len(products)), np.arange(len(products))] = -1
    near = products.max(1) > 0.9
    assert near.sum() > 100
    _, numbers = index.nearest(asked)
    hit = (numbers == products.argmax(1)[:, None]).any(1)
    assert hit[near].mean() > 0.9


def test_of_many_images_pairs_of_the_same_ones_come_near_each_other(
    found: list[Keypoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.random.default_rng(0).permutation(4 * SCENES)
    images = [(found * 2)[image] for image in order]  # each twice, anywhere
    by_votes = pairs_of(voted_pairs(reader(images), range(len(images)), None))
    monkeypatch.setattr(keypoint_votes, "IMAGES_KEPT", 10)
    by_images = pairs_of(voted_pairs(reader(images), range(len(images)), None))
    assert sorted(by_images) == sorted(by_votes)

    def reads(pairs: list[tuple[int, int]]) -> int:
        """Of a program that keeps the eight last images."""
        kept: list[int] = []
        count = 0
        for image in (image for pair in pairs for image in pair):
            count += image not in kept
            kept = [*(one for one in kept if one != image), image][-8:]
        return count

    assert reads(by_images) < 0.7 * reads(by_votes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes, and a small crop of each."""
    path = tmp_path_factory.mktemp("images")
    for seed in range(SCENES):
        scene(seed).save(path / f"{seed:02d}.png")
        cropped(scene(seed)).save(path / f"crop-{seed:02d}.png")
    return path


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "scenes.h5"
    embedkit.extract(folder, path, backbone="tiny", weights="random", labels="none")
    return path


def names_of(folder: Path, store: Path, **settings) -> tuple[list[str], set[frozenset[str]]]:
    """The images, and the pairs that are found on their pixels."""
    with EmbeddingStore.open(store) as opened:
        ids = [Path(one).stem for one in opened.ids]
    found = find_pairs(
        store, DedupConfig(threshold=0.5),
        verify=lambda name: np.asarray(Image.open(folder / name).convert("RGB")), **settings,
    )  # fmt: skip
    ends = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return ids, {frozenset((ids[first], ids[second])) for first, second in ends}


RIGHT = {frozenset((f"{seed:02d}", f"crop-{seed:02d}")) for seed in range(SCENES)}


def test_copies_whose_embeddings_say_nothing_are_found(folder: Path, store: Path) -> None:
    _, names = names_of(folder, store)
    assert names <= RIGHT
    assert len(names) >= 0.95 * len(RIGHT)


def test_where_only_some_images_are_new_others_are_in_no_pair(folder: Path, store: Path) -> None:
    ids, names = names_of(folder, store)
    new = np.array([name.startswith("crop") and int(name[-2:]) % 2 == 0 for name in ids])
    _, some = names_of(folder, store, new=[new])
    assert some == {pair for pair in names if min(int(name[-2:]) for name in pair) % 2 == 0}


def test_crops_of_another_stores_images_are_found_beside_equal_ones(
    folder: Path, tmp_path: Path
) -> None:
    """An image that both stores have votes in both."""
    sides = tmp_path / "here", tmp_path / "there"
    for side in sides:
        side.mkdir()
    for file in folder.iterdir():
        cropped_one = file.name.startswith("crop")
        shutil.copy(file, sides[not cropped_one] / file.name)
        if not cropped_one and int(file.stem) < 5:
            shutil.copy(file, sides[0] / file.name)
    for side in sides:
        embedkit.extract(side, f"{side}.h5", backbone="tiny", weights="random", labels="none")
    readers = [
        lambda name, side=side: np.asarray(Image.open(side / name).convert("RGB")) for side in sides
    ]
    found = find_pairs(
        f"{sides[0]}.h5", DedupConfig(threshold=0.5), against=f"{sides[1]}.h5",
        verify=readers[0], verify_against=readers[1],
    )  # fmt: skip
    ids = []
    for side in sides:
        with EmbeddingStore.open(f"{side}.h5") as opened:
            ids.append([Path(one).stem for one in opened.ids])
    names = {
        (ids[0][first], ids[1][second])
        for first, second in zip(found.first.tolist(), found.second.tolist(), strict=True)
    }
    assert all(first[-2:] == second for first, second in names)
    assert len(names) >= 0.95 * SCENES + 5
