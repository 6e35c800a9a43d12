"""What a figure was measured on: the machine, the versions, the day."""

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PACKAGES = (
    *("torch", "torchvision", "timm", "openvino", "nncf", "pillow", "simplejpeg", "numpy"),
    *("opencv-python-headless", "imagededup"),
)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """The CPU's capabilities, as Linux names them; empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def why_no_bf16(device: str) -> str | None:
    """Why bf16 isn't worth measuring on a device; None where the hardware computes in it."""
    if device == "cpu":
        if cpu_flags() & {"avx512_bf16", "amx_bf16"}:
            return None
        return "this CPU has neither avx512_bf16 nor amx_bf16"
    import torch

    return None if torch.cuda.is_bf16_supported(False) else "this GPU has no bf16"


def print_facts() -> None:
    """Prints the machine, its capabilities, the versions of the libraries, and the date."""
    flags = cpu_flags()
    has = ", ".join(flag if flag in flags else f"no {flag}" for flag in _FLAGS)
    model = _cpuinfo("model name") or platform.processor() or platform.machine()
    print(f"machine: {model}, {usable_cores()} cores, {_memory_gb()}; {has}; {_gpus()}")
    versions = (f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    print(f"versions: Python {platform.python_version()}, {', '.join(versions)}")
    print(f"date: {datetime.datetime.now(tz=datetime.UTC).date()}\n")


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _memory_gb() -> str:
    try:
        nbytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return "memory unknown"
    return f"{nbytes / 2**30:.0f} GiB"


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "no GPU"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
