"""The figures that the benchmarks print are what their names say."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedkit.decode.preprocessing import Preprocessing
from embedkit.types import Head

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = (
    "busy", "cleanup", "copy_pooling", "decode", "extract", "fidelity", "growth", "lookalikes",
    "probe", "scale_sim", "serve", "verify_processes",
)  # fmt: skip


def photo(seed, width=330, height=260):
    small = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_start(name):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--images" in done.stdout


def test_agreement_equals_a_plain_loop(script):
    agreement = script("support.agreement").agreement
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((40, 6)).astype(np.float32)
    other = exact + 0.4 * rng.standard_normal((40, 6)).astype(np.float32)
    head = Head(rng.standard_normal((5, 6)).astype(np.float32), np.ones(5, np.float32), (), ())
    found = agreement(exact, other, head)

    def cosine(a, b):
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    def neighbor(rows, k):
        return max((i for i in range(40) if i != k), key=lambda i: cosine(rows[i], rows[k]))

    cosines = sorted(cosine(exact[k], other[k]) for k in range(40))
    assert found.least == pytest.approx(cosines[0], abs=1e-6)
    assert found.median == pytest.approx((cosines[19] + cosines[20]) / 2, abs=1e-6)
    assert found.same_neighbor == sum(neighbor(exact, k) == neighbor(other, k) for k in range(40))
    assert 0 < found.same_neighbor < 40
    top1 = [(rows @ head.weight.T + head.bias).argmax(1) for rows in (exact, other)]
    assert found.same_top1 == (top1[0] == top1[1]).sum()


def test_pooling_is_judged_at_one_threshold_for_all_edits(script):
    pooling = script("copy_pooling")
    rng = np.random.default_rng(0)
    references = rng.standard_normal((40, 300))
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    kinds = np.array(list(pooling.EDITS))
    original = np.arange(len(kinds))
    queries = references[original]
    queries[1] = 0.1 * references[30] + 0.01 * references[1]  # looks like another photograph
    found = pooling.Measured.of(pooling.Embedded(queries, references, original, kinds))
    count = len(kinds)
    assert found.cosine[1] == pytest.approx((count - 1) / count)
    assert found.by_edit == {kind: float(kind != kinds[1]) for kind in kinds}
    assert (count - 1) / count < found.cosine[0] < 1


def test_decoders_beside_pillow(script):
    decode = script("decode")
    methods = decode.whole_methods(Preprocessing(resize=64, crop=56))
    files = [photo(seed) for seed in range(3)]
    pixels = {name: [method(data) for data in files] for name, method in methods.items()}
    exact = pixels.pop("Pillow")
    for name, found in pixels.items():
        difference = decode.Difference.between(exact, found)
        assert difference.most <= 2, name
        assert (difference.most == 0) == (difference.equal == 1.0) == (difference.mean == 0), name
    assert decode.Difference.between(exact, pixels["embedkit exact"]).most == 0


def test_ordinary_jpegs_are_told(script):
    is_ordinary = script("decode").is_ordinary
    gray, png = io.BytesIO(), io.BytesIO()
    Image.new("L", (40, 40)).save(gray, "JPEG")
    Image.new("RGB", (40, 40)).save(png, "PNG")
    assert is_ordinary(photo(0))
    assert not is_ordinary(gray.getvalue())
    assert not is_ordinary(png.getvalue())


def test_limit_of_a_pipeline(script):
    limit_of = script("extract").limit_of
    assert limit_of(100, 25, "cpu")[0] == pytest.approx(20)
    assert limit_of(100, 25, "cuda:1")[0] == 25
    assert limit_of(100, 2500, "cuda")[0] == 100


def test_tenths_show_where_a_run_slows_down(script):
    moments = [(second, 10 * second) for second in range(1, 6)]
    moments += [(5 + second, 50 + 5 * second) for second in range(1, 11)]
    tenths = script("growth").rates_of_tenths(moments)
    assert tenths == pytest.approx([10] * 5 + [5] * 5)


def test_growth_draws_the_same_plot_from_the_same_figures(script, tmp_path):
    pytest.importorskip("matplotlib")
    growth = script("growth")
    runs = [growth.Run(10**k, 90.0, 80.0, [90.0] * 10, 500.0 + k) for k in (3, 4)]
    for name in ("one.svg", "two.svg"):
        growth.plot(runs, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_photos_are_repeated_and_enlarged(script, tmp_path):
    photos = script("support.photos")
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "in" / name).write_bytes(photo(ord(name[0])))
    links = photos.image_files(photos.repeat(tmp_path / "in", 1003, tmp_path / "out"))
    assert len(links) == 1003
    assert [link.resolve().name for link in links[:3]] == ["a.jpg", "b.jpg", "a.jpg"]
    (large,) = photos.enlarge([photo(0)], 0.5, progressive=True)
    image = Image.open(io.BytesIO(large))
    assert image.width * image.height == pytest.approx(5e5, rel=0.01)
    assert image.info["progressive"]


def test_rate_counts_whole_passes(script):
    seen = []
    found = script("support.timing").rate(seen.append, [1, 2, 3], seconds=0.05)
    assert len(seen) % 3 == 0
    assert found > 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux only")
def test_memory_of_children_counts(script):
    tree_memory = script("support.timing").tree_memory
    grand = (
        "import time; held = bytearray(b'x') * (100 << 20); print(1, flush=True); time.sleep(60)"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grand!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            assert 100 < tree_memory(process.pid) < 200
        finally:
            for child in (
                Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ):
                os.kill(int(child), signal.SIGKILL)
            process.kill()
