"""SSCD's descriptors against networks of the published layouts, built with torchvision alone."""

import http.server
import re
import threading
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import pytest
import torch
from images import draw_photo, write_photos
from networks import SIDE, randomise, torchvision_net
from torch import nn
from torchvision.transforms import Resize

from embedkit import EmbeddingStore, embed, extract
from embedkit.backbones import find_spec, load_backbone, registry
from embedkit.backbones.pooling import FeatureModule
from embedkit.backbones.sscd import sscd_network
from embedkit.errors import WeightsError
from embedkit.extraction.store_settings import backbone_of

CLASSY_LAYERS = {
    "conv1": "convolutional_block.0",
    "bn1": "convolutional_block.1",
    "conv2": "convolutional_block.3",
    "bn2": "convolutional_block.4",
    "conv3": "convolutional_block.6",
    "bn3": "bn",
    "downsample": "downsample",
}


class GlobalGem(nn.Module):
    """Written out from the paper, as its users do."""

    def forward(self, maps):
        values = maps.flatten(2).clamp(min=1e-6)
        return ((values**3).sum(2) / values.shape[2]) ** (1 / 3)


class Published(nn.Module):
    """A network of torchvision with GeM in the place of its average and a projection as ``fc``."""

    def __init__(self, arch, dim):
        super().__init__()
        self.backbone = torchvision_net(arch)
        randomise(self.backbone)
        self.backbone.avgpool = GlobalGem()
        self.backbone.fc = nn.Linear(self.backbone.fc.in_features, dim)
        # Pooled values are positive and alike; centred, their projections point everywhere.
        with torch.no_grad():
            projection = self.backbone.fc
            projection.weight -= projection.weight.mean(1, keepdim=True)
            projection.bias.uniform_(-0.01, 0.01)

    def forward(self, images):
        descriptors = self.backbone(images)
        return descriptors / descriptors.norm(dim=1, keepdim=True)


def in_classys_names(state):
    """The same tensors as Classy Vision's networks call them."""
    return {classy_name(name): tensor for name, tensor in state.items()}


def classy_name(name):
    name = name.removeprefix("backbone.")
    if name.startswith("fc."):
        return name.replace("fc.", "embeddings.1.")
    if name.startswith(("conv1.", "bn1.")):
        place = 0 if name.startswith("conv1.") else 1
        return f"backbone.initial_block._module.{place}.{name.split('.', 1)[1]}"
    stage, block, layer, rest = re.fullmatch(r"layer(\d)\.(\d+)\.(\w+)\.(.+)", name).groups()
    stage = int(stage) - 1
    return f"backbone.blocks.{stage}.block{stage}-{block}.{CLASSY_LAYERS[layer]}.{rest}"


@pytest.fixture(scope="module")
def resnet50():
    torch.default_generator.manual_seed(6)
    return Published("resnet50", 512).eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a published file, which is deleted after the test: they are large."""
    paths = []

    def make(net, name):
        state = net.state_dict()
        paths.append(tmp_path / name)
        torch.save(in_classys_names(state) if ".classy." in name else state, paths[-1])
        return paths[-1]

    yield make
    for path in paths:
        path.unlink()


def compare(theirs, name, path, images):
    mine = load_backbone(name, weights=path, input_size=SIDE)
    with torch.inference_mode():
        expected, found, whole = theirs(images), mine.module(images), mine.classifier(images)
    assert (expected @ expected.T).triu(1).max() < 0.95  # not degenerate
    assert (found - expected).abs().max() < 1e-6  # of unit vectors; measured: 0
    assert torch.equal(whole, found)
    return mine


@pytest.mark.parametrize("layout", ["torchvision", "classy"])
def test_published_resnet50_gives_its_descriptors(resnet50, images, checkpoint, layout):
    path = checkpoint(resnet50, f"sscd_disc_mixup.{layout}.pt")
    mine = compare(resnet50, "sscd_disc_mixup", path, images)
    assert (mine.feature_dim, mine.licence) == (512, "MIT")
    assert (mine.pooling, mine.gem_p, mine.head, mine.head_applies) == ("gem", 3.0, None, False)


@pytest.mark.slow
def test_published_resnext101_gives_its_descriptors(images, checkpoint):
    torch.default_generator.manual_seed(8)
    theirs = Published("resnext101_32x4d", 1024).eval()
    path = checkpoint(theirs, "sscd_disc_large.classy.pt")
    mine = compare(theirs, "sscd_disc_large", path, images)
    assert mine.feature_dim == 1024


def test_both_layouts_have_one_fingerprint(resnet50, checkpoint):
    paths = [checkpoint(resnet50, f"x.{layout}.pt") for layout in ("torchvision", "classy")]
    loaded = [load_backbone("sscd_disc_blur", weights=path) for path in paths]
    assert loaded[0].fingerprint == loaded[1].fingerprint


def test_a_file_without_the_projection_is_refused(resnet50, tmp_path):
    state = {name: tensor for name, tensor in resnet50.state_dict().items() if ".fc." not in name}
    path = tmp_path / "trunk.pt"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"2 missing \(global_pool.projection.weight"):
        load_backbone("sscd_disc_mixup", weights=path)


def test_images_are_stretched_as_the_publisher_does():
    preprocessing = find_spec("sscd_disc_mixup").preprocessing()
    photo = draw_photo(1, (500, 300))
    expected = np.asarray(Resize([320, 320])(photo))
    np.testing.assert_array_equal(preprocessing.apply(photo), expected)


def random(**settings):
    return load_backbone("sscd_disc_mixup", weights="random", input_size=SIDE, **settings)


def test_gem_is_the_default_and_may_be_said(images):
    default, said = random(), random(pooling="gem")
    assert default.to_config() == said.to_config()
    with torch.inference_mode():
        assert torch.equal(default.module(images), said.module(images))


@pytest.mark.parametrize(
    "settings", [{"pooling": "max"}, {"pooling": "avg+max"}, {"pooling": "gem", "gem_p": 4.0}]
)
def test_another_pooling_before_the_projection_is_refused(settings):
    with pytest.raises(ValueError, match="trained for pooling=gem with gem_p=3: leave both out"):
        random(**settings)


def test_layers_are_pooled_without_the_projection(images):
    trunk = random(layers=["layer4"], pooling="max")
    assert (trunk.pooling, trunk.feature_dim) == ("max", 2048)
    with torch.inference_mode():
        maps = trunk.module.net.forward_features(images)
        assert torch.equal(trunk.module(images), maps.amax((2, 3)))


def test_descriptors_of_a_bf16_network_are_float32_unit_vectors(images):
    module = FeatureModule(sscd_network("resnet18", 32), pooling="gem", own_pooling="gem").eval()
    randomise(module.net)
    with torch.inference_mode():
        exact = module(images)
        found = module.to(torch.bfloat16)(images.to(torch.bfloat16))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    assert ((found * exact).sum(1) > 0.999).all()


def test_a_store_brings_its_descriptors_back(tmp_path):
    photos = write_photos(tmp_path / "photos", 3)
    settings = {"backbone": "sscd_disc_mixup", "weights": "random", "input_size": SIDE}
    extract(tmp_path / "photos", tmp_path / "s.h5", labels="none", **settings)
    with EmbeddingStore.open(tmp_path / "s.h5") as store:
        rows, meta = store.to_numpy(np.float32), store.meta
    assert dict(meta.pooling)["pooling"] == "gem"
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-3)
    assert backbone_of(meta).to_config() == random().to_config()
    np.testing.assert_allclose(embed(photos, **settings), rows, atol=2e-3)


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """A server with a small network in the published layout; nothing else is on this machine."""
    for name in ("EMBEDKIT_CACHE", "TORCH_HOME", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("HF_HUB_OFFLINE", "EMBEDKIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    torch.default_generator.manual_seed(9)
    net = Published("resnet18", 512).eval()
    served = tmp_path / "served"
    served.mkdir()
    torch.save(net.state_dict(), served / "sscd_disc_mixup.torchvision.pt")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/sscd_disc_mixup.torchvision.pt"
        spec = replace(find_spec("sscd_disc_mixup"), url=url, arch="resnet18")
        monkeypatch.setattr(registry, "BACKBONES", MappingProxyType({spec.name: spec}))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield net, url
        server.shutdown()
        thread.join()


def test_published_file_is_downloaded_once_by_name(publisher, images, tmp_path, caplog, capfd):
    theirs, url = publisher
    mine = load_backbone("sscd_disc_mixup", input_size=SIDE)
    with torch.inference_mode():
        assert (mine.module(images) - theirs(images)).abs().max() < 1e-6
    assert mine.weights == f"url:{url}"
    assert "states no SHA-256" in caplog.text
    kept = tmp_path / "EMBEDKIT_CACHE" / "weights" / "sscd_disc_mixup.torchvision.pt"
    assert kept.is_file()
    again = load_backbone("sscd_disc_mixup", input_size=SIDE)
    assert again.to_config() == mine.to_config()
    assert capfd.readouterr().err.count("GET ") == 1


def test_absent_file_says_what_to_bring(publisher, tmp_path):
    _, url = publisher
    (tmp_path / "served" / "sscd_disc_mixup.torchvision.pt").unlink()
    told = f"File not found): bring sscd_disc_mixup.torchvision.pt from {url} into "
    with pytest.raises(WeightsError, match=re.escape(told)):
        load_backbone("sscd_disc_mixup", input_size=SIDE)
