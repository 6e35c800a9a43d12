"""Folded networks compute what the whole ones do, and nothing is folded that must not be."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from embedkit.backbones import load_backbone
from embedkit.engines.fold_batchnorm import fold_batch_norms


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_statistics(module, seed=0):
    """Normalisations that do something: those of random weights are nearly the identity."""
    generator = torch.Generator().manual_seed(seed)
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d):
            with torch.no_grad():
                for tensor in (inner.weight, inner.running_var):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
                for tensor in (inner.bias, inner.running_mean):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) / 8)
    return module.eval()


def count_norms(module):
    return sum(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())


def differs(module, size, dtype):
    """The largest difference after folding, relative to the largest feature."""
    module = module.to(dtype)
    folded = fold_batch_norms(module, size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.inference_mode():
        before, after = module(images), folded(images)
    return ((before - after).abs().max() / before.abs().max()).item(), folded


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("tiny", 0),
        ("resnet18_swsl", 20),
        ("resnext50_32x4d_swsl", 53),
        ("efficientnet_lite0", 49),
        ("sscd_disc_mixup", 53),
    ],
)
def test_folded_networks_give_the_same_features(name, norms):
    module = with_statistics(load_backbone(name, weights="random", input_size=32).module)
    assert count_norms(module) == norms
    off, folded = differs(module, 32, torch.float32)
    assert count_norms(folded) == 0
    assert off < 1e-5


def test_they_are_equal_but_for_rounding():
    module = with_statistics(load_backbone("resnet18_swsl", weights="random", input_size=32).module)
    off, folded = differs(module.net, 32, torch.float64)  # the module itself ends in float32
    assert count_norms(folded) == 0
    assert off < 1e-12


def test_the_given_network_stays_as_it_is():
    module = with_statistics(load_backbone("resnet18_swsl", weights="random").module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    folded = fold_batch_norms(module, 64)
    for tensor in folded.state_dict().values():
        tensor.zero_()
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Net(nn.Module):
    """A convolution, a normalisation, and a way between and around them."""

    def __init__(self, way, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), norm(4)
        self.other = nn.BatchNorm2d(4)
        self.way = way

    def forward(self, images):
        return self.way(self, images).mean((2, 3))


def plain(net, images):
    return net.norm(net.conv(images))


def used_before_too(net, images):
    maps = net.conv(images)
    return net.norm(maps) + maps


def normed_twice(net, images):
    maps = net.conv(images)
    return net.norm(maps) + net.other(maps)


def changed_in_place(net, images):
    return net.norm(net.conv(images).relu_())


def norm_of_two(net, images):
    return net.norm(net.conv(images)) + net.norm(images[:, [0, 1, 2, 0], 1:-1, 1:-1])


def in_a_circle(net, images):
    return net.norm(net.conv(images)) + net.norm(net.conv(images.flip(-1)))


@pytest.mark.parametrize(
    ("way", "left"),
    [
        (plain, 1),
        (in_a_circle, 1),
        (used_before_too, 2),
        (normed_twice, 2),
        (changed_in_place, 2),
        (norm_of_two, 2),
    ],
)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
def test_only_what_may_be_folded_is(way, left, norm):
    torch.manual_seed(0)
    off, folded = differs(with_statistics(Net(way, norm)), 16, torch.float64)
    assert off < 1e-12
    assert count_norms(folded) == left


def test_convolutions_of_other_kinds_are_left_alone():
    class Standardised(nn.Conv2d):
        def forward(self, images):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return nn.functional.conv2d(images, weight, self.bias)

    net = with_statistics(Net(plain))
    net.conv = Standardised(3, 4, 3)
    off, folded = differs(net, 16, torch.float64)
    assert off == 0
    assert count_norms(folded) == 2
