"""The repository as a torch hub."""

import importlib.util
from pathlib import Path

import pytest
import torch

from embedkit.backbones import BACKBONES

REPO = str(Path(__file__).parents[2])


def load(name, **settings):
    return torch.hub.load(REPO, name, source="local", **settings)


@pytest.fixture(scope="module")
def entries():
    """What torch.hub sees: the public callables of hubconf.py."""
    spec = importlib.util.spec_from_file_location("hubconf_listed", f"{REPO}/hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    assert all(importlib.util.find_spec(name) for name in hubconf.dependencies)
    public = {name: value for name, value in vars(hubconf).items() if not name.startswith("_")}
    return {name: value for name, value in public.items() if callable(value)}


def test_hub_lists_the_twelve_and_nothing_else(entries):
    published = {spec.name for spec in BACKBONES.values() if spec.source == "hub"}
    assert set(entries) == published


def test_entry_names_itself_and_the_licence(entries):
    assert entries["resnet18_swsl"].__name__ == "resnet18_swsl"
    assert "CC-BY-NC-4.0" in entries["resnet18_swsl"].__doc__


def test_classifier_and_features():
    images = torch.zeros(1, 3, 64, 64)
    assert load("resnet18_swsl", weights="random")(images).shape == (1, 1000)
    assert load("resnet18_swsl", pretrained=False, features=True)(images).shape == (1, 512)


def test_settings_are_passed_on():
    module = load("resnet18_ssl", weights="random", features=True, layers=["layer1"])
    assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 64)


def test_weights_from_a_file(tmp_path):
    net = load("resnet18_ssl", pretrained=False, seed=3)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    again = load("resnet18_ssl", weights=tmp_path / "w.pth")
    torch.testing.assert_close(again.fc.weight, net.fc.weight)


def test_published_weights_are_the_default(monkeypatch, tmp_path):
    for name in ("EMBEDKIT_CACHE", "TORCH_HOME", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("EMBEDKIT_OFFLINE", "1")
    with pytest.raises(Exception, match="no weights on this machine"):
        load("resnet18_swsl")
