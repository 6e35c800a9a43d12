"""The twelve against torchvision's own networks, and the table's counts against the networks."""

import numpy as np
import pytest
import timm
import torch
from networks import SIDE, randomise, torchvision_net
from torch import nn

from embedkit.backbones import BACKBONES, load_backbone
from embedkit.backbones.sscd import sscd_network

PUBLISHED = [spec for spec in BACKBONES.values() if spec.source == "hub"]
TWELVE = [
    pytest.param(
        spec,
        id=spec.name,
        marks=[
            *([pytest.mark.slow] if "101" in spec.name else []),
            *([pytest.mark.long] if "32x16d" in spec.name else []),  # twice as wide as 32x8d
        ],
    )
    for spec in PUBLISHED
]
SIX = [param for param in TWELVE if param.values[0].name.endswith("_ssl")]
LARGE_TWINS = {"resnext101_32x8d_ssl", "resnext101_32x16d_ssl"}


def torchvision_features(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    stem = nn.Sequential(*list(net.children())[:-1])
    return stem(images).flatten(1)


@pytest.fixture
def checkpoint(tmp_path):
    """A path whose file is deleted at once: pytest would keep gigabytes of three runs."""
    path = tmp_path / "w.pth"
    yield path
    path.unlink(missing_ok=True)


# Each SSL network is an SWSL network by another name: of the largest two, one is enough.
@pytest.mark.parametrize("spec", [p for p in TWELVE if p.id not in LARGE_TWINS])
def test_original_checkpoint_gives_torchvisions_features(spec, checkpoint):
    torch.default_generator.manual_seed(2)
    theirs = torchvision_net(spec.arch)
    randomise(theirs)
    torch.save(theirs.state_dict(), checkpoint)
    mine = load_backbone(spec.name, weights=checkpoint, input_size=SIDE)
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected, logits = torchvision_features(theirs, images), theirs(images)
        found = mine.module(images)
    scale = expected.abs().max().item()
    assert (expected[0] - expected[1]).abs().max() > 0.1 * scale  # not degenerate
    assert (found - expected).abs().max() < 1e-5 * scale
    assert mine.head is not None
    mine_logits = found.numpy() @ mine.head.weight.T + mine.head.bias
    limit = 1e-5 * logits.abs().max().item()
    np.testing.assert_allclose(mine_logits, logits.numpy(), rtol=0, atol=limit)
    assert (mine.feature_dim, mine.warning) == (spec.feature_dim, spec.warning)
    assert mine.licence == "CC-BY-NC-4.0"


def multiply_adds(net: nn.Module, side: int) -> int:
    """Count as timm's benchmark does: convolutions, linear layers, two a batch-normed value."""
    total = 0

    def count(module, _inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d):
            total += 2 * output.numel()

    for module in net.modules():
        module.register_forward_hook(count)
    net.eval()(torch.zeros(1, 3, side, side, device="meta"))
    return total


COUNTED = [*SIX, pytest.param(BACKBONES["efficientnet_lite0"], id="efficientnet_lite0")]


@pytest.mark.parametrize("name", ["sscd_disc_mixup", "sscd_disc_large"])
def test_table_counts_of_copy_detection_are_the_networks(name):
    spec = BACKBONES[name]
    with torch.device("meta"):
        net = sscd_network(spec.arch, spec.feature_dim)
    whole = sum(parameter.numel() for parameter in net.parameters())
    assert round(whole / 1e6, 2) == spec.params_m == spec.params_backbone_m
    assert round(multiply_adds(net, spec.crop) / 1e9, 2) == spec.gmacs


@pytest.mark.parametrize("spec", COUNTED)
def test_table_counts_are_the_networks(spec):
    with torch.device("meta"):
        net = timm.create_model(spec.timm_name, pretrained=False)
    whole = sum(parameter.numel() for parameter in net.parameters())
    head = sum(parameter.numel() for parameter in net.get_classifier().parameters())
    assert round(whole / 1e6, 2) == spec.params_m
    assert round((whole - head) / 1e6, 2) == spec.params_backbone_m
    assert net.get_classifier().in_features == spec.feature_dim
    assert round(multiply_adds(net, spec.crop) / 1e9, 2) == spec.gmacs


def test_both_trainings_of_an_architecture_share_their_counts():
    for spec in PUBLISHED:
        twin = BACKBONES[f"{spec.arch}_ssl"]
        assert (spec.params_m, spec.params_backbone_m, spec.gmacs, spec.feature_dim) == (
            twin.params_m,
            twin.params_backbone_m,
            twin.gmacs,
            twin.feature_dim,
        )
