"""Where PyTorch computes."""

from __future__ import annotations

__all__ = ["torch_device"]


def torch_device(asked: str) -> str:
    """The device of PyTorch's that was asked for.

    Args:
        asked: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: There is no such device.
    """
    if asked == "cpu":
        return asked
    if asked != "auto" and not asked.startswith("cuda"):
        raise ValueError(f"no device {asked!r}: it is auto, cpu, cuda or cuda:N")
    import torch

    if torch.cuda.is_available():
        return "cuda" if asked == "auto" else asked
    if asked == "auto":
        return "cpu"
    raise ValueError(f"device {asked!r}: there is no GPU here that PyTorch can use")
