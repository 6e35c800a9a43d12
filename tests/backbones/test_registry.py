"""The table: complete, consistent, quick to import, and able to find weights on disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedkit import backbones
from embedkit.backbones import BACKBONES, find_spec, weights_on_disk
from embedkit.backbones.registry import cache_folder, weights_folder
from embedkit.errors import UnknownBackboneError

PUBLISHED = [spec for spec in BACKBONES.values() if spec.source == "hub"]
FOR_COPIES = [spec for spec in BACKBONES.values() if spec.source == "url"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home without any of the variables that name a cache."""
    for name in ("EMBEDKIT_CACHE", "TORCH_HOME", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def test_twelve_on_the_hub_seven_for_copies_one_packaged_one_tiny():
    assert len(PUBLISHED) == 12
    assert len(FOR_COPIES) == 7
    others = {spec.name for spec in BACKBONES.values()} - {s.name for s in PUBLISHED + FOR_COPIES}
    assert others == {"efficientnet_lite0", "tiny"}


@pytest.mark.parametrize("spec", FOR_COPIES, ids=lambda spec: spec.name)
def test_spec_for_copies_agrees_with_itself(spec):
    large = spec.name == "sscd_disc_large"
    layout = "classy" if large else "torchvision"
    assert spec.name.startswith("sscd_")
    assert spec.url.endswith(f"/sscd-copy-detection/{spec.name}.{layout}.pt")
    assert spec.url.endswith(f"/{spec.filename}")
    assert (spec.licence, spec.sha8, spec.hub_id) == ("MIT", "", "")
    assert (spec.arch, spec.feature_dim) == (
        ("resnext101_32x4d", 1024) if large else ("resnet50", 512)
    )
    assert spec.params_m == (44.23 if large else 24.56)


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.name)
def test_published_spec_agrees_with_itself(spec):
    assert spec.name.startswith(f"{spec.arch}_")
    assert spec.url.endswith(f"/{spec.filename}")
    assert spec.filename.endswith(f"-{spec.sha8}.pth")
    assert spec.hub_id == f"timm/{spec.timm_name}"
    assert spec.licence == "CC-BY-NC-4.0"
    assert spec.preprocessing().to_config()["interpolation"] == "bilinear"


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.name)
def test_published_spec_agrees_with_timm(spec):
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(spec.timm_name)
    assert (spec.url, spec.hub_id) == (cfg.url, cfg.hf_hub_id)
    assert (spec.licence.lower(), spec.interpolation) == (cfg.license, cfg.interpolation)
    assert (spec.mean, spec.std) == (cfg.mean, cfg.std)
    assert (3, spec.crop, spec.crop) == cfg.input_size
    assert spec.resize == int(spec.crop / cfg.crop_pct)


def test_only_the_wrongly_saved_file_has_a_warning():
    assert [spec.name for spec in BACKBONES.values() if spec.warning] == ["resnext101_32x16d_swsl"]


@pytest.mark.parametrize(
    "name", ["resnet50_swsl", "ResNet50_SWSL", "resnet50.fb_swsl_ig1b_ft_in1k", " resnet50_swsl "]
)
def test_find_spec_takes_both_names_in_any_case(name):
    assert find_spec(name).name == "resnet50_swsl"


def test_find_spec_suggests_the_nearest_names():
    with pytest.raises(UnknownBackboneError, match="resnet50_swsl") as caught:
        find_spec("resnet50_swls")
    assert caught.value.suggestions[0] == "resnet50_swsl"


def test_find_spec_of_nothing_alike_suggests_nothing():
    with pytest.raises(UnknownBackboneError) as caught:
        find_spec("qqqqqqqq")
    assert caught.value.suggestions == ()


def test_looking_up_imports_nothing_heavy():
    code = (
        "import sys, embedkit.backbones.registry; from embedkit.backbones import find_spec;"
        "find_spec('tiny'); print({'torch', 'timm', 'numpy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_package_has_only_the_names_it_lists():
    assert sorted(backbones.__all__) == backbones.__all__
    assert all(getattr(backbones, name) is not None for name in backbones.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = backbones.nothing_like_it


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("EMBEDKIT_CACHE", "mine", "mine/weights"),
        ("XDG_CACHE_HOME", "xdg", "xdg/embedkit/weights"),
        ("EMBEDKIT_CACHE", "", ".cache/embedkit/weights"),
    ],
)
def test_weights_folder_follows_the_environment(home, monkeypatch, variable, value, expected):
    monkeypatch.setenv(variable, str(home / value) if value else "")
    assert weights_folder() == home / expected


def test_the_earlier_cache_is_kept_on_other_systems(home, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: home / "new" / name)
    assert cache_folder() == home / "new" / "embedkit"
    (home / ".cache" / "embedkit").mkdir(parents=True)
    assert cache_folder() == home / ".cache" / "embedkit"


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (None, ".cache/embedkit/weights/{timm}.safetensors"),
        (None, ".cache/embedkit/weights/{file}"),
        ("EMBEDKIT_CACHE", "weights/{file}"),
        (None, ".cache/torch/hub/checkpoints/{file}"),
        ("TORCH_HOME", "hub/checkpoints/{file}"),
        ("XDG_CACHE_HOME", "torch/hub/checkpoints/{file}"),
        (None, ".cache/huggingface/hub/models--timm--{timm}/snapshots/abc/model.safetensors"),
        ("HF_HOME", "hub/models--timm--{timm}/snapshots/abc/pytorch_model.bin"),
        ("HF_HUB_CACHE", "models--timm--{timm}/snapshots/abc/model.safetensors"),
    ],
)
def test_weights_are_found_wherever_they_are_kept(home, monkeypatch, variable, place):
    spec = find_spec("resnet18_ssl")
    assert weights_on_disk(spec) is None
    root = home
    if variable:
        root = home / "elsewhere"
        monkeypatch.setenv(variable, str(root))
    path = put(root / place.format(timm=spec.timm_name, file=spec.filename))
    assert weights_on_disk(spec) == path


def test_the_hub_cache_prefers_its_main_revision(home):
    spec = find_spec("resnet18_ssl")
    repo = home / f".cache/huggingface/hub/models--timm--{spec.timm_name}"
    put(repo / "snapshots/aaa/model.safetensors")
    wanted = put(repo / "snapshots/bbb/model.safetensors")
    put(repo / "refs/main").write_text("bbb\n")
    assert weights_on_disk(spec) == wanted


def test_given_cache_comes_before_the_environment(home, tmp_path):
    spec = find_spec("resnet18_ssl")
    path = put(tmp_path / "given" / "weights" / spec.filename)
    assert weights_on_disk(spec, cache=tmp_path / "given") == path


def test_packaged_weights_are_found_without_importing_the_package(home, monkeypatch):
    spec = find_spec("efficientnet_lite0")
    monkeypatch.delitem(sys.modules, spec.package, raising=False)
    path = weights_on_disk(spec)
    assert path is not None
    assert path.name == spec.filename
    assert spec.package not in sys.modules


def test_tiny_has_no_weights_on_disk(home):
    assert weights_on_disk(find_spec("tiny")) is None
