"""The PyTorch device for a name such as ``auto``, ``cpu`` or ``cuda:1``."""

from __future__ import annotations

__all__ = ["torch_device"]


def torch_device(device: str) -> str:
    """Resolves a device name to a PyTorch device.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: The name is unknown, or PyTorch finds no GPU.
    """
    if device == "cpu":
        return device
    if device != "auto" and not device.startswith("cuda"):
        raise ValueError(f"no device {device!r}: it is auto, cpu, cuda or cuda:N")
    import torch

    if torch.cuda.is_available():
        return "cuda" if device == "auto" else device
    if device == "auto":
        return "cpu"
    raise ValueError(f"device {device!r}: there is no GPU here that PyTorch can use")
