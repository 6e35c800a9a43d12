"""The benchmarks of copies judge rankings rightly, and read sets as they are published."""

import sys

import numpy as np
import pytest
from images import draw_photo, write_photos
from PIL import Image

from embedkit.dedup import find_pairs
from embedkit.extraction.source_images import OriginalImages
from embedkit.store import EmbeddingStore

pytest.importorskip("cv2")

SEEDS = (0, 1, 2, 3, 5, 7, 8, 11)  # drawn with enough keypoints to find a crop by


def cells(out, step):
    """The cells of a printed row."""
    (line,) = (line for line in out.splitlines() if line.startswith(f"| {step} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def cropped(image, share=0.12):
    across, down = (round(side * share) for side in image.size)
    return image.crop((across, down, image.width - across, image.height - down))


@pytest.fixture
def without_peers(monkeypatch):
    for name in ("imagededup", "imagededup.methods", "fastdup"):
        monkeypatch.setitem(sys.modules, name, None)


def test_rankings_count_pairs_without_a_score_as_missing(script):
    rankings = script("support.rankings")
    pairs = np.array([[0, 1], [0, 2], [1, 3]])
    found = rankings.Scored(pairs, np.array([0.95, 0.94, 0.05]), is_probability=True)
    truth = rankings.Truth(np.array([[0, 1], [1, 3], [4, 5]]))
    assert rankings.area(found, truth) == f"{(1 + 2 / 3) / 3:.3f}"
    assert rankings.recall_at(found, truth, 0.99) == "0.333"
    assert rankings.recall_at(found, truth, 0.6) == "0.667"
    assert rankings.precision_and_recall(found, truth, 0.9) == ("0.500", "0.333")
    assert rankings.precision_and_recall(found, truth, 0.99) == ("-", "0.000")
    assert rankings.precision_and_recall(found, truth, None) == ("", "")
    assert rankings.calibration_error(found, truth) == f"{(0.89 + 0.95) / 3:.4f}"
    assert rankings.calibration_error(rankings.Scored(pairs, found.scores), truth) == ""


def test_pairs_of_large_numbers_are_not_mixed_up(script):
    is_among = script("support.rankings").is_among
    pairs = np.array([[1, 2], [2, 1], [0, 2**31]])
    assert is_among(pairs, pairs[[0, 2]]).tolist() == [True, False, True]
    assert not is_among(pairs, np.empty((0, 2), np.int64)).any()


def test_every_step_is_printed_for_portraits_and_crops(script, tmp_path, capsys, without_peers):
    for seed in SEEDS:
        photo = draw_photo(seed)
        save(photo, tmp_path / "Faces" / f"image_{seed:04d}.jpg")
        save(cropped(photo), tmp_path / "Faces_easy" / f"image_{seed:04d}.jpg")
    save(draw_photo(99), tmp_path / "Faces_easy" / "image_0099.jpg")  # of no portrait here
    lookalikes = script("lookalikes")
    lookalikes.main(["--faces", str(tmp_path), "--backbone", "tiny"])
    out = capsys.readouterr().out
    assert "17 images, 8 true pairs" in out
    assert cells(out, "embedkit, verified")[1:4] == ["1.000", "1.000", "1.000"]
    assert cells(out, "SIFT + MAGSAC")[2] == "1.000"
    for step in ("cosine", "whitened cosine", "candidates", "embedkit, no pixels"):
        assert 0 < float(cells(out, step)[2]) <= 1
    for peer in ("imagededup PHash", "imagededup CNN", "fastdup"):
        assert cells(out, peer)[1] == "not installed"


def test_true_pairs_are_read_in_either_order(script, tmp_path):
    lookalikes = script("lookalikes")
    write_photos(tmp_path / "in" / "b", 2)
    write_photos(tmp_path / "in" / "a", 1)
    truth = tmp_path / "truth.csv"
    truth.write_text("first,second\nb/photo_0001.jpg,a/photo_0000.jpg\n"
                     "a/photo_0000.jpg,b/photo_0001.jpg\n")  # fmt: skip
    files, found = lookalikes.listed(tmp_path / "in", truth)
    assert [path.parent.name for path in files] == ["a", "b", "b"]
    assert found.pairs.tolist() == [[0, 2]]
    truth.write_text("first,second\nb/photo_0001.jpg,gone.jpg\n")
    with pytest.raises(SystemExit, match=r"such as gone\.jpg"):
        lookalikes.listed(tmp_path / "in", truth)


@pytest.mark.parametrize("arguments", [[], ["--images", "x"], ["--faces", "x", "--images", "y"]])
def test_one_set_must_be_named(script, arguments, capsys):
    with pytest.raises(SystemExit):
        script("lookalikes").main(arguments)
    assert "--truth" in capsys.readouterr().err


@pytest.mark.parametrize("verify", [False, True])
def test_the_threshold_is_the_one_that_a_search_chooses(script, tmp_path, verify):
    numbered = script("support.numbered")
    for seed in SEEDS:
        save(draw_photo(seed), tmp_path / "in" / f"{seed}.jpg")
        save(cropped(draw_photo(seed)), tmp_path / "in" / f"{seed}_crop.jpg")
    folder = numbered.link(numbered.images_below(tmp_path / "in"), tmp_path / "images")
    store = numbered.embed(folder, "tiny")
    found = numbered.search(folder, verify=verify)
    with EmbeddingStore.open(store) as opened:
        ids = list(opened.ids)
    with OriginalImages.of_source(folder, ids) as pixels:
        default = find_pairs(store, verify=pixels if verify else None)
    assert found.threshold == pytest.approx(default.info.threshold)
    assert (found.scores >= np.float32(found.threshold)).sum() == len(default)


def test_copies_have_more_keypoints_on_one_map_than_other_photos(script, tmp_path):
    peer = script("peers.sift_magsac")
    photo = draw_photo(0)
    save(photo, tmp_path / "0.png")
    save(cropped(photo), tmp_path / "1.png")
    save(draw_photo(1), tmp_path / "2.png")
    save(Image.new("RGB", (64, 64)), tmp_path / "3.png")  # no keypoints
    files = [tmp_path / f"{number}.png" for number in range(4)]
    copy, other, empty = peer.inliers(files, [(0, 1), (0, 2), (0, 3)])
    assert copy >= peer.LEAST_INLIERS > other
    assert empty == 0


def test_copydays(script, tmp_path, capsys):
    photos = [draw_photo(seed) for seed in range(5)]
    for number, photo in enumerate(photos):
        save(photo, tmp_path / "original" / f"20{number}000.jpg")
        save(photo, tmp_path / "jpegqual" / "10" / f"20{number}000.jpg", quality=10)
    save(cropped(photos[1]), tmp_path / "crops" / "20" / "201000.jpg")
    save(photos[2].rotate(5), tmp_path / "strong" / "202001.jpg")
    save(photos[2].resize((200, 150)), tmp_path / "strong" / "202002.jpg")
    public = script("public_copies")
    found = public.copydays(tmp_path)
    assert found.truth.pairs.tolist() == [[0, 1], *([1 + k, k] for k in range(5)), [6, 2], [7, 2]]
    public.main(["--copydays", str(tmp_path), "--backbone", "tiny"])
    out = capsys.readouterr().out
    assert "5 references" in out
    assert cells(out, "verified")[1:6] == ["8", "8", "1.000", "1.000", "1.000"]
    assert cells(out, "verified: strong")[1:4] == ["2", "2", "1.000"]
    assert cells(out, "verified: jpegqual")[1:4] == ["5", "5", "1.000"]
    assert cells(out, "without pixels: crops")[1:3] == ["1", "1"]


@pytest.mark.parametrize("header", ["query_id,reference_id\n", ""])
def test_disc21(script, tmp_path, capsys, header):
    photos = [draw_photo(seed) for seed in range(5)]
    for number, photo in enumerate(photos):
        save(photo, tmp_path / "references" / f"R{number:06d}.jpg")
    save(photos[3].resize((240, 180)), tmp_path / "queries" / "Q00001.jpg")
    save(draw_photo(50), tmp_path / "queries" / "Q00002.jpg")
    truth = tmp_path / "ground_truth.csv"
    truth.write_text(f"{header}Q00001,R000003\nQ00002,\nQ00003,R000001\n")
    public = script("public_copies")
    found = public.disc21(tmp_path)
    assert found.truth.pairs.tolist() == [[0, 3]]
    assert "1 of 2 listed pairs" in capsys.readouterr().out
    public.main(["--disc21", str(tmp_path), "--backbone", "tiny"])
    out = capsys.readouterr().out
    assert cells(out, "verified")[1:4] == ["2", "1", "1.000"]
    (tmp_path / "another.csv").write_text("")
    with pytest.raises(SystemExit, match="one CSV"):
        public.disc21(tmp_path)


def test_of_cifar_the_listed_copies_are_counted(script, tmp_path, capsys):
    for seed in range(4):
        small = draw_photo(seed).resize((32, 32))
        save(small, tmp_path / "train" / "frog" / f"{10 * seed:05d}.png")
        save(small.crop((1, 1, 31, 31)), tmp_path / "test" / f"{seed:04d}.png")
    duplicates = tmp_path / "duplicates.csv"
    duplicates.write_text(
        "TestID,TrainID,Distance,Judgment\n1,10,0.1,1\n2,20,0.1,0\n3,30,0.2,2\n9,0,0.2,1\n"
    )
    public = script("public_copies")
    found = public.cifar(tmp_path, duplicates)
    assert found.truth.pairs.tolist() == [[1, 1], [2, 2]]
    assert found.similar.tolist() == [[3, 3]]
    scored = script("support.rankings").Scored(
        np.array([[3, 3], [1, 1], [0, 0], [2, 2], [0, 3]]), np.array([0.9, 0.8, 0.7, 0.4, 0.6]), 0.5
    )
    pairs = public.by_default(scored, 4)
    assert public.counts(pairs, 0.0, found)[:5] == ["4", "0", "1 of 2", "1 of 1", "3"]
    public.draw_sheet(pairs, found, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels[:72, :300].any(axis=2).mean() > 0.9  # two pairs
    assert not pixels[:72, 304:].any()
    public.main(
        ["--cifar", str(tmp_path), "--duplicates", str(duplicates), "--backbone", "tiny",
         "--sheet", str(tmp_path / "judge.png"), "--whole"]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert cells(out, "test with train, verified")[2:4] == ["0", "2 of 2"]
    assert cells(out, "all, verified")[2:5] == ["0", "2 of 2", "1 of 1"]
    assert (tmp_path / "judge all verified.png").exists()


def test_a_sheet_shows_at_most_five_pairs_of_images_that_pairs_connect(script, tmp_path):
    for number in range(12):
        save(Image.new("RGB", (32, 32), "white"), tmp_path / f"{number}.png")
    public = script("public_copies")
    files = [tmp_path / f"{number}.png" for number in range(12)]
    copies = public.CopySet.of(files[:6], files[6:], [])
    public.draw_sheet(np.array([[0, one] for one in range(1, 10)] + [[10, 11]]), copies,
                      tmp_path / "sheet.png")  # fmt: skip
    with Image.open(tmp_path / "sheet.png") as sheet:
        row = np.asarray(sheet.convert("L"))[36]
    assert (row > 128).sum() == 6 * 2 * 72


def test_an_empty_set_is_refused(script, tmp_path):
    with pytest.raises(SystemExit, match="no queries"):
        script("public_copies").main(["--copydays", str(tmp_path)])


def test_edited_copies_beside_others_are_one_more_set(script, tmp_path):
    write_photos(tmp_path / "photos", 3)
    write_photos(tmp_path / "others", 2)
    lookalikes = script("lookalikes")
    files, truth = lookalikes.edited(
        tmp_path / "photos", tmp_path / "others", 2, tmp_path / "edits"
    )
    assert len(files) == 2 + 2 + 2 * 25
    assert len(truth.pairs) == 2 * (26 * 25 // 2)
    for first, second in truth.pairs.tolist():
        names = [files[image].stem.removeprefix("photos-") for image in (first, second)]
        assert len({name[-4:] for name in names}) == 1
