"""Folds batch normalisation into the preceding convolution, which saves one pass per layer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fold_batch_norms"]

_CONVOLUTIONS = {nn.Conv2d, Conv2dSame}  # exactly these: others change their weights as they run
_NORMS = {nn.BatchNorm2d, BatchNormAct2d}
_TOLERANCE = 1e-3  # relative to the largest feature; a wrong fold is orders of magnitude beyond


def fold_batch_norms(module: nn.Module, size: int) -> nn.Module:
    """Copy a network, with each batch normalisation folded into the convolution that feeds it.

    Which feeds which is seen in a run, not guessed from names; and a network whose output the
    folding would change (a map that is used before its normalisation too) is left as it is.

    Args:
        module: In eval mode, on the CPU; images ``(B, 3, H, W)`` to features ``(B, D)``.
        size: Side of the images, pixels.

    Returns:
        A copy that shares nothing with ``module``, equal to it but for rounding.
    """
    dtype = next(module.parameters()).dtype
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(1, 3, size, size, generator=generator).to(dtype)
    folded = copy.deepcopy(module)
    with torch.no_grad():
        pairs, expected = _find_pairs(folded, example)
        for norm, convolution in pairs.items():
            _fold(convolution, norm)
        _replace(folded, {norm: _what_remains(norm) for norm in pairs})
        close = _TOLERANCE * expected.abs().max().item()
        if torch.allclose(folded(example), expected, rtol=0, atol=close):
            return folded
    return copy.deepcopy(module)


def _find_pairs(
    module: nn.Module, example: torch.Tensor
) -> tuple[dict[nn.BatchNorm2d, nn.Conv2d], torch.Tensor]:
    """The normalisations that are fed by one convolution which feeds no other; and the output."""
    made: dict[int, tuple[torch.Tensor, int, nn.Conv2d]] = {}
    feeds: dict[nn.BatchNorm2d, set[nn.Conv2d | None]] = {}

    def on_convolution(convolution: Any, _: Any, maps: torch.Tensor) -> None:
        made[id(maps)] = (maps, maps._version, convolution)  # kept, so that no id comes twice

    def on_norm(norm: Any, args: tuple[torch.Tensor, ...]) -> None:
        maps, version, convolution = made.get(id(args[0]), (None, 0, None))
        unchanged = maps is args[0] and args[0]._version == version
        feeds.setdefault(norm, set()).add(convolution if unchanged else None)

    expected = _run_watched(module, example, on_convolution, on_norm)
    users: dict[nn.Conv2d | None, int] = {}
    for convolutions in feeds.values():
        for convolution in convolutions:
            users[convolution] = users.get(convolution, 0) + 1
    pairs = {}
    for norm, convolutions in feeds.items():
        convolution = next(iter(convolutions))
        if len(convolutions) == 1 and convolution is not None and users[convolution] == 1:
            pairs[norm] = convolution
    return pairs, expected


def _run_watched(
    module: nn.Module,
    example: torch.Tensor,
    on_convolution: Callable[..., None],
    on_norm: Callable[..., None],
) -> torch.Tensor:
    hooks = []
    for inner in module.modules():
        if type(inner) in _CONVOLUTIONS:
            hooks.append(inner.register_forward_hook(on_convolution))
        elif type(inner) in _NORMS and getattr(inner, "running_mean", None) is not None:
            hooks.append(inner.register_forward_pre_hook(on_norm))
    try:
        output: torch.Tensor = module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return output


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Gives the convolution the weights of both, computed in float64."""
    dtype = convolution.weight.dtype
    given = (convolution.weight, convolution.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, var = (None if one is None else one.double() for one in given)
    scale, shift = (None if one is None else one.double() for one in (norm.weight, norm.bias))
    fused = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, scale, shift)  # type: ignore[arg-type]
    convolution.weight, convolution.bias = (
        nn.Parameter(one.to(dtype), requires_grad=False) for one in fused
    )


def _what_remains(norm: nn.BatchNorm2d) -> nn.Module:
    """The activation and more, which timm's normalisation has inside."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _replace(module: nn.Module, replacements: dict[nn.BatchNorm2d, nn.Module]) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child in replacements:
                setattr(parent, name, replacements[child])
