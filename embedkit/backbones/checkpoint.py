"""Reading weight files and checking that they are what they should be."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from safetensors import SafetensorError

from embedkit.backbones.pickle_checks import (
    MAX_PICKLE_BYTES,
    check_pickles,
    check_zipped_pickles,
)
from embedkit.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from torch import nn

    State = dict[str, torch.Tensor]

__all__ = ["fingerprint", "load_weights", "read_weights"]

_COUNTER = "num_batches_tracked"
"""Batch norm's step counter: it plays no part in inference, and old files lack it."""

_MAX_HEADER_BYTES = 4 * 2**20  # of a safetensors file: some 30,000 tensors
_WRAPPERS = ("state_dict", "model")
_SHOWN = 3


def load_weights(
    net: nn.Module,
    path: Path,
    *,
    by_order: bool = False,
    rename: Callable[[str], str] | None = None,
    state_dict_url: str = "",
) -> None:
    """Read a weights file into a network, all of it or nothing.

    Args:
        net: The network, with its classifier.
        path: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin`` of tensors only.
        by_order: If the names differ, match tensors by their order; all shapes must agree.
        rename: From the file's names of tensors to the network's.
        state_dict_url: As in `read_weights`.

    Raises:
        WeightsError: The file can't be read, or isn't this network's.
    """
    expected = net.state_dict()
    state = read_weights(path, state_dict_url=state_dict_url)
    if rename is not None:
        state = {rename(name): tensor for name, tensor in state.items()}
    if by_order and not set(state) & set(expected) and len(state) == len(expected):
        state = dict(zip(expected, state.values(), strict=True))
    problems = [
        *_listed("missing", [k for k in expected if k not in state and not k.endswith(_COUNTER)]),
        *_listed("unexpected", [k for k in state if k not in expected]),
        *_listed("of another shape", _misshapen(state, expected)),
    ]
    if problems:
        raise WeightsError(f"{path}: not weights of this network: {'; '.join(problems)}")
    _check_finite(path, state)
    net.load_state_dict(state, strict=False)  # not strict because of the counters only


def read_weights(path: Path, *, state_dict_url: str = "") -> State:
    """Read the tensors of a weights file without running any code in it.

    A checkpoint's ``state_dict`` or ``model`` is taken out, and the ``module.`` that
    ``DataParallel`` puts before each name is dropped.

    Args:
        path: ``.safetensors``, ``.pth``, ``.pt`` or ``.bin``.
        state_dict_url: Where the publisher has the tensors alone, named if the file is a program.

    Returns:
        Names to tensors on the CPU, in the file's order.

    Raises:
        WeightsError: There is no such file, it is damaged, holds more than tensors, is a
            TorchScript program, or is of another kind.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    with _read_errors(path):
        if path.suffix == ".safetensors":
            _refuse_long_header(path)
            return dict(safetensors.torch.load_file(path))
        if path.suffix in (".pth", ".pt", ".bin"):
            _check_archive(path, state_dict_url)
            return _plain_state(path, torch.load(path, map_location="cpu", weights_only=True))
    raise WeightsError(f"{path}: weights are read from .safetensors, .pth, .pt or .bin")


def _refuse_long_header(path: Path) -> None:
    """Refuse a safetensors file whose list of tensors would take minutes and gigabytes."""
    with path.open("rb") as file:
        nbytes = int.from_bytes(file.read(8), "little")
    if nbytes > _MAX_HEADER_BYTES:
        raise WeightsError(
            f"{path}: damaged safetensors file (a header of {nbytes:,} bytes, the limit is "
            f"{_MAX_HEADER_BYTES:,})"
        )


def _check_archive(path: Path, state_dict_url: str) -> None:
    """Refuse a TorchScript file, known by a member that no other has, and a decompression bomb."""
    if not zipfile.is_zipfile(path):
        check_pickles(path)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(one.filename.endswith("/constants.pkl") for one in members):
        where = f" ({state_dict_url})" if state_dict_url else ""
        raise WeightsError(
            f"{path}: a TorchScript file, a program that would run when it is opened: take the "
            f"file of its state dict instead{where}"
        )
    if sum(one.file_size for one in members) > path.stat().st_size:  # torch never compresses
        raise WeightsError(f"{path}: a compressed archive, which torch.save doesn't write")
    pickles = [one for one in members if one.filename.endswith(".pkl")]
    if any(one.file_size > MAX_PICKLE_BYTES for one in pickles):
        raise WeightsError(f"{path}: names over {MAX_PICKLE_BYTES:,} bytes; no weights have those")
    check_zipped_pickles(path, [one.filename for one in pickles])


def fingerprint(net: nn.Module) -> str:
    """Hash a network's tensors, so that equal weights have one name whatever file they were in.

    Args:
        net: The network, with its classifier.

    Returns:
        64 hex digits: the SHA-256 over each tensor's name, dtype, shape and bytes (little-endian;
        all floats as float32), sorted by name, without batch norm's counters.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not name.endswith(_COUNTER):
            array = _little_endian(tensor)
            digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _little_endian(tensor: torch.Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _plain_state(path: Path, loaded: object) -> State:
    """Take the state dict out of whatever a checkpoint wraps around it."""
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(map(_is_entry, loaded.items())):
        raise WeightsError(f"{path}: holds no state dict (names to tensors)")
    if all(name.startswith("module.") for name in loaded):
        return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    return dict(loaded)


def _is_entry(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def _misshapen(state: State, expected: Mapping[str, torch.Tensor]) -> list[str]:
    return [
        f"{name} {tuple(tensor.shape)} for {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]


def _listed(what: str, found: list[str]) -> list[str]:
    """Name the first few, so that the message stays one line."""
    if not found:
        return []
    dots = ", …" if len(found) > _SHOWN else ""
    return [f"{len(found)} {what} ({', '.join(found[:_SHOWN])}{dots})"]


def _check_finite(path: Path, state: State) -> None:
    bad = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise WeightsError(
            f"{path}: NaN or infinite values in {'; '.join(_listed('tensors', bad))}"
        )


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Map what torch, safetensors and the file system raise, most specific first."""
    try:
        yield
    except pickle.UnpicklingError as exc:
        raise WeightsError(
            f"{path}: damaged, or holds more than tensors and would run code when opened; "
            "save its state dict alone"
        ) from exc
    except SafetensorError as exc:
        raise WeightsError(f"{path}: damaged safetensors file ({exc})") from exc
    except OSError as exc:
        raise WeightsError(f"{path}: can't be read ({exc.strerror or exc})") from exc
    except WeightsError:
        raise
    except Exception as exc:  # of a damaged pickle torch raises nearly every error
        raise WeightsError(f"{path}: damaged weights file ({_first_line(exc)})") from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
