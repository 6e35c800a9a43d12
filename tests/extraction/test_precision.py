"""Precisions: what is chosen, measured, stored, and gone on with."""

import logging
import sys
import time
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
from images import write_photos

from embedkit.backbones import load_backbone
from embedkit.engines import EngineChoice, choose_engine, compiled_for_many, open_engine, select
from embedkit.engines.fidelity import GATE, Fidelity
from embedkit.engines.measured_speed import MeasuredSpeed, recall_speed, remember_speed
from embedkit.engines.openvino import OpenVinoEngine
from embedkit.errors import BackboneError, MissingExtraError, StoreMismatchError
from embedkit.extraction import precision as precision_module
from embedkit.extraction.config import ExtractConfig, RunConfig
from embedkit.extraction.dry_run import preview
from embedkit.extraction.extract import extract
from embedkit.extraction.precision import settled
from embedkit.sources.part import Part
from embedkit.store import EmbeddingStore, merge

COUNT = 40
HAS_BF16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT)
    return folder


def engine_of(store):
    with EmbeddingStore.open(store) as opened:
        return dict(opened.meta.engine)


def rows_of(store):
    with EmbeddingStore.open(store) as opened:
        return np.asarray(opened.embeddings, np.float32)


def test_int8_is_measured_and_stored(tiny, photos, tmp_path, caplog):
    exact, quick = tmp_path / "exact.h5", tmp_path / "quick.h5"
    extract(photos, exact, backbone=tiny, device="cpu", precision="fp32")
    with caplog.at_level(logging.INFO, "embedkit"):
        extract(photos, quick, backbone=tiny, device="cpu", precision="int8")
    assert "fidelity" not in engine_of(exact)
    engine = engine_of(quick)
    assert engine["precision"] == "int8"
    assert len(engine["calibration"]) == 64
    told = dict(engine["fidelity"])
    assert told.pop("precision") == "int8"
    passes = told.pop("passes_gate")
    fidelity = Fidelity.from_config(told)
    assert passes == fidelity.reaches(GATE)
    assert str(fidelity) in caplog.text
    first, second = rows_of(exact), rows_of(quick)
    assert not np.array_equal(first, second)
    cosines = (first * second).sum(1)
    cosines /= np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    # All 40 images are in the probe; the rows are float16, the figures were taken before.
    assert fidelity.images == COUNT
    assert fidelity.cosine_min == pytest.approx(cosines.min(), abs=1e-3)
    assert fidelity.cosine_median == pytest.approx(np.median(cosines), abs=1e-3)


def test_a_run_in_int8_can_be_gone_on_with(tiny, photos, tmp_path, monkeypatch):
    settings = {"backbone": tiny, "device": "cpu", "batch_size": 4, "shard_rows": 9}
    whole, output = tmp_path / "whole.h5", tmp_path / "parts.h5"
    extract(photos, whole, precision="int8", **settings)
    stop_after(photos, output, precision="int8", **settings)
    with pytest.raises(StoreMismatchError, match=r"engine\.precision"):
        extract(photos, output, precision="fp32", **settings)
    # The cache may be lost in between: the network is made again, to the bit.
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "new"))
    assert extract(photos, output, **settings).complete  # auto takes what was begun
    assert output.read_bytes() == whole.read_bytes()


def stop_after(photos, output, **settings):
    import threading

    stop = threading.Event()
    result = extract(photos, output, stop=stop, progress=lambda _: stop.set(), **settings)
    assert not result.complete


def test_int8_stores_of_other_images_do_not_merge(tiny, photos, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    write_photos(others, 5)
    min(others.iterdir()).unlink()
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    for source, output in ((photos, first), (others, second)):
        extract(source, output, backbone=tiny, device="cpu", precision="int8", labels="none")
    with pytest.raises(StoreMismatchError, match=r"engine\.calibration"):
        merge([first, second], tmp_path / "both.h5")


def test_int8_of_damaged_images_only(tiny, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"\xff\xd8\xff damaged")
    with pytest.raises(BackboneError, match="int8 needs images to calibrate with"):
        extract(tmp_path / "in", tmp_path / "a.h5", backbone=tiny, device="cpu", precision="int8")


def test_int8_prints_nothing(tiny, photos, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "new"))
    loggers = logging.getLoggerClass()
    extract(photos, tmp_path / "a.h5", backbone=tiny, device="cpu", precision="int8")
    assert capfd.readouterr().out == ""
    assert logging.getLoggerClass() is loggers


def trial(monkeypatch, photos, output, tiny, figures, *, slower="fp32", worth=True):
    """An extraction with --precision auto, as if the CPU had bf16 and the trial gave these figures.

    bf16 is computed by a network of its own, so that the two can be told apart; one is slower.
    """

    class Pretended(OpenVinoEngine):
        def __init__(self, backbone, *, precision, **settings):
            super().__init__(backbone, **{**settings, "precision": "fp32"})
            self.precision = precision

        def _run(self, images):
            if self.precision == slower:
                time.sleep(0.05)
            return super()._run(images) * (2 if self.precision == "bf16" else 1)

    monkeypatch.setattr("embedkit.engines.openvino.OpenVinoEngine", Pretended)
    monkeypatch.setattr("embedkit.engines.select._has_bf16", lambda name, device: True)
    monkeypatch.setattr(precision_module, "_NEVER_WORTH", 1)
    if worth:  # these are far fewer images than ever are
        monkeypatch.setattr(MeasuredSpeed, "pays", lambda *_: True)
    monkeypatch.setattr(
        precision_module,
        "measure_fidelity",
        lambda reference, found: Fidelity(**{**GATE.to_config(), "images": len(found), **figures}),
    )
    extract(photos, output, backbone=tiny, device="cpu")
    return engine_of(output)


@pytest.mark.parametrize(
    ("figures", "taken"), [({}, "bf16"), ({"cosine_median": 0.9994}, "fp32")], ids=["good", "bad"]
)
def test_auto_goes_by_the_gate(tiny, photos, tmp_path, monkeypatch, figures, taken):
    exact = tmp_path / "exact.h5"
    extract(photos, exact, backbone=tiny, device="cpu", precision="fp32")
    output = tmp_path / "auto.h5"
    engine = trial(monkeypatch, photos, output, tiny, figures)
    assert engine["precision"] == taken
    assert engine["fidelity"]["precision"] == "bf16"
    assert engine["fidelity"]["passes_gate"] == (taken == "bf16")
    factor = 2 if taken == "bf16" else 1
    np.testing.assert_allclose(rows_of(output), factor * rows_of(exact), rtol=2e-3)


def test_auto_does_not_try_for_a_few_images(tiny, photos, tmp_path, monkeypatch):
    engine = trial(monkeypatch, photos, tmp_path / "a.h5", tiny, {}, worth=False)
    assert engine["precision"] == "fp32"
    assert "fidelity" not in engine


def test_auto_takes_the_faster_one(tiny, photos, tmp_path, monkeypatch):
    engine = trial(monkeypatch, photos, tmp_path / "a.h5", tiny, {}, slower="bf16")
    assert engine["precision"] == "fp32"
    assert engine["fidelity"]["passes_gate"]


def test_a_trial_pays_by_the_time_that_it_saves():
    amx = MeasuredSpeed(fp32=36, bf16=157, opening=2)  # ResNet-50 on two cores
    assert [amx.pays(images, 128) for images in (250, 350, 800)] == [False, True, True]
    assert not MeasuredSpeed(fp32=36, bf16=36, opening=2).pays(10**9, 128)
    fast = MeasuredSpeed(fp32=3000, bf16=11_000, opening=5)  # on a GPU
    assert [fast.pays(images, 128) for images in (10_000, 40_000)] == [False, True]


def test_speeds_are_remembered_for_a_backbone_and_a_machine(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "new"))
    speed = MeasuredSpeed(10.0, 40.0, 1.5)
    with open_engine(tiny, device="cpu", precision="fp32") as engine:
        assert recall_speed(tiny, engine) is None
        remember_speed(tiny, engine, speed)
        assert recall_speed(tiny, engine) == speed
        (kept,) = (tmp_path / "new" / "speeds").glob("*.speed")
        kept.write_text("damaged")
        assert recall_speed(tiny, engine) is None
    with open_engine(tiny, device="cpu", precision="fp32", batch_size=2) as engine:
        assert recall_speed(tiny, engine) is None


def test_a_known_speed_spares_the_trial(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "new"))
    trial(monkeypatch, photos, tmp_path / "a.h5", tiny, {}, slower="bf16")
    monkeypatch.undo()
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "new"))
    monkeypatch.setattr("embedkit.engines.select._has_bf16", lambda name, device: True)
    monkeypatch.setattr(precision_module, "_NEVER_WORTH", 1)
    monkeypatch.setattr(precision_module, "_probe", lambda *_: pytest.fail("tried again"))
    extract(photos, tmp_path / "b.h5", backbone=tiny, device="cpu")
    assert engine_of(tmp_path / "b.h5")["precision"] == "fp32"


def test_auto_keeps_what_was_begun(tiny, photos, tmp_path, monkeypatch):
    output = tmp_path / "a.h5"
    monkeypatch.setattr("embedkit.engines.select._has_bf16", lambda name, device: True)
    stop_after(photos, output, backbone=tiny, device="cpu", batch_size=4)
    monkeypatch.setattr(precision_module, "_NEVER_WORTH", 1)
    monkeypatch.setattr(precision_module, "_faster", lambda *_: pytest.fail("tried again"))
    assert extract(photos, output, backbone=tiny, device="cpu", batch_size=4).complete
    assert engine_of(output)["precision"] == "fp32"


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16")
def test_bf16_is_near_fp32(tiny, photos, tmp_path):
    extract(photos, tmp_path / "a.h5", backbone=tiny, device="cpu", precision="bf16")
    engine = engine_of(tmp_path / "a.h5")
    assert engine["precision"] == "bf16"
    assert engine["fidelity"]["cosine_min"] > 0.99


@pytest.mark.skipif(HAS_BF16, reason="this CPU has bf16")
def test_bf16_is_refused_where_the_cpu_has_none(tiny, photos, tmp_path):
    with pytest.raises(ValueError, match="doesn't compute in bf16"):
        extract(photos, tmp_path / "a.h5", backbone=tiny, device="cpu", precision="bf16")
    assert not list(tmp_path.iterdir())
    assert choose_engine("auto", "cpu", "auto").precision == "fp32"


def test_choices():
    assert choose_engine("auto", "cpu", "fp32") == EngineChoice("openvino", ("cpu",), "fp32", 4)
    assert choose_engine("torch", "cpu", "bf16", 3) == EngineChoice("torch", ("cpu",), "bf16", 3)
    two = ("cuda:0", "cuda:1")
    assert choose_engine("auto", "cuda:0,cuda:1", "fp32") == EngineChoice("torch", two, "fp32", 256)
    assert choose_engine("torch", "cpu", "auto").precision == "fp32"


def test_a_gpu_with_many_images_gets_a_compiled_network(monkeypatch):
    monkeypatch.setattr(select, "_can_compile", lambda: True)
    two = EngineChoice("torch", ("cuda:0", "cuda:1"), "auto", 256)
    run = RunConfig(part=Part(2, 3))
    assert run.images_each(3_000_000, 2) == 500_000
    assert compiled_for_many(two, 500_000) == replace(two, name="torch-compiled")
    assert compiled_for_many(two, 499_999) == two
    on_cpu = EngineChoice("openvino", ("cpu",), "auto", 4)
    assert compiled_for_many(on_cpu, 10**9) == on_cpu
    monkeypatch.setattr(select, "_can_compile", lambda: False)
    assert compiled_for_many(two, 10**9) == two
    assert RunConfig(ray="auto", workers=4).images_each(2_000_000, 8) == 500_000
    assert RunConfig(ray="auto").images_each(2_000_000, 8) == 0


def test_a_run_that_begins_compiled_goes_on_so():
    begun = {"name": "torch-compiled", "precision": "bf16", "batch_size": 64}
    choice = EngineChoice("torch", ("cuda",), "auto", 256)
    expected = EngineChoice("torch-compiled", ("cuda",), "bf16", 64)
    assert settled(choice, ExtractConfig(), 10, begun) == expected
    on_cpu = EngineChoice("openvino", ("cpu",), "fp32", 4)  # refused when it is opened
    assert settled(on_cpu, ExtractConfig(), 10, begun).name == "openvino"
    named = ExtractConfig(engine="torch")
    assert settled(choice, named, 10, begun).name == "torch"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"precision": "fp16"}, "precision 'fp16' is none of"),
        ({"engine": "tensorrt"}, "engine 'tensorrt' is none of"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": "cpu,cuda:0"}, "all CPUs or all GPUs"),
        ({"device": "cuda:0,"}, "no device ''"),
        ({"batch_size": 0}, "batch size"),
        ({"engine": "openvino", "device": "cuda"}, "openvino runs on the cpu"),
        ({"engine": "torch", "device": "cpu", "precision": "int8"}, "int8 needs engine"),
    ],
)
def test_wrong_choices(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        choose_engine(**{"device": "cpu", **wrong})


def test_int8_without_nncf_and_without_images(tiny, monkeypatch):
    with pytest.raises(ValueError, match="images to calibrate"):
        open_engine(tiny, device="cpu", precision="int8")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"embedkit\[int8\]"):
        choose_engine("auto", "cpu", "int8")


def test_an_engine_is_never_auto(tiny):
    with pytest.raises(ValueError, match="auto is for extract"):
        open_engine(tiny, device="cpu", precision="auto")


def test_preview_tells_the_precision(tiny, photos, tmp_path, monkeypatch):
    told = preview(photos, tmp_path / "a.h5", backbone=tiny, device="cpu", precision="fp32")
    assert "fp32" in told.engine
    monkeypatch.setattr("embedkit.engines.select._has_bf16", lambda name, device: True)
    told = preview(photos, tmp_path / "a.h5", backbone=tiny, device="cpu")
    assert "by trial" in told.engine
