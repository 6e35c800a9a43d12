"""Checks the pickles of a weights file as instructions, before torch runs them."""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import TYPE_CHECKING

from embedkit.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["MAX_PICKLE_BYTES", "check_pickles", "check_zipped_pickles"]

MAX_PICKLE_BYTES = 16 * 2**20
"""Bytes of the names and shapes in a .pth file, at most."""

_MAX_OPERATIONS = 2_000_000  # some 60,000 tensors
_MAX_PARTS = 2_000_000  # of all values, each counted as often as it is used
_MAX_DEPTH = 100  # of values in values; deeper ones crash the interpreter when they are hashed
_INTEGERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2"}
_INTO = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_PICKLES = 5  # magic number, version, system, tensors, keys

_Value = list["_Value"]
"""A value as the values that it is made of."""


def check_pickles(path: Path) -> None:
    """Refuse a file of before 2020, pickles and then bytes, whose pickles are endless or lie.

    Raises:
        WeightsError: Reading one would take too long, too much memory, or crash.
    """
    with path.open("rb") as file:
        pickled = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    nbytes = path.stat().st_size
    try:
        for _ in range(_PICKLES):
            _check_pickle(path, pickled, nbytes)
    except WeightsError:
        raise
    except Exception as exc:  # damaged; torch is to say how, unless it would read on for long
        if nbytes > MAX_PICKLE_BYTES and pickled.tell() == MAX_PICKLE_BYTES:
            raise WeightsError(
                f"{path}: names over {MAX_PICKLE_BYTES:,} bytes; no weights have those"
            ) from exc


def check_zipped_pickles(path: Path, names: Iterable[str]) -> None:
    """Refuse a file of today, an archive, with such a pickle.

    Args:
        path: The file.
        names: Its members that are pickles, none of more than `MAX_PICKLE_BYTES`.

    Raises:
        WeightsError: As in `check_pickles`.
    """
    nbytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for name in names:
            try:
                _check_pickle(path, io.BytesIO(archive.read(name)), nbytes)
            except WeightsError:
                raise
            except Exception:  # damaged; torch is to say how
                continue


def _check_pickle(path: Path, pickled: io.BytesIO, nbytes: int) -> None:
    number, values = 0, _Values()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
            if count > _MAX_OPERATIONS:
                raise WeightsError(f"{path}: a pickle of over {_MAX_OPERATIONS:,} operations")
            if operation.name in _INTEGERS and isinstance(argument, int):
                number = argument
            # A storage ends with how many elements it has, of at least a byte each.
            if operation.name == "BINPERSID" and number > nbytes:
                raise WeightsError(f"{path}: damaged: {number:,} elements in {nbytes:,} bytes")
            values.run(operation, argument)
    finally:  # torch runs what comes before damage too
        if not _is_small(values.stack):
            raise WeightsError(f"{path}: damaged: its pickle nests values too deeply")


class _Values:
    """The values that a pickle makes, without what they are.

    Attributes:
        stack: The unpickler's; torch drops nothing from it, so all values are reached from it.
    """

    def __init__(self) -> None:
        self.stack: _Value = []
        self._marks: list[int] = []
        self._memo: dict[object, _Value] = {}

    def run(self, operation: pickletools.OpcodeInfo, argument: object) -> None:
        """Runs one instruction.

        Raises:
            LookupError: It doesn't fit those before.
        """
        name = operation.name
        if name == "MARK":
            self._marks.append(len(self.stack))
        elif "GET" in name:
            self.stack.append(self._memo[argument])
        elif "PUT" in name:
            self._memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif operation.stack_after:
            parts = self._pop(operation)
            if name in _INTO:
                parts[0].extend(parts[1:])
                parts = parts[0]
            self.stack.append(parts)

    def _pop(self, operation: pickletools.OpcodeInfo) -> _Value:
        before = operation.stack_before
        first, count = len(self.stack), len(before)
        if pickletools.markobject in before:
            first, count = self._marks.pop(), before.index(pickletools.markobject)
        if count > first:
            raise LookupError("the pickle takes more values than it has made")
        parts = self.stack[first - count :]
        del self.stack[first - count :]
        return parts


def _is_small(top: _Value) -> bool:
    """Whether a value is neither too deep nor, where parts are used again and again, too large."""
    sizes: dict[int, tuple[int, int]] = {}  # by the value's id: its parts and its depth
    begun: set[int] = set()
    left = [top]
    while left:
        value = left[-1]
        if id(value) in sizes:
            left.pop()
            continue
        missing = [part for part in value if id(part) not in sizes]
        if missing and id(value) in begun:
            return False  # it holds itself
        begun.add(id(value))
        if missing:
            left.extend(missing)
            continue
        parts = [sizes[id(part)] for part in value]
        size = 1 + sum(one for one, _ in parts)
        depth = 1 + max((one for _, one in parts), default=0)
        if size > _MAX_PARTS or depth > _MAX_DEPTH:
            return False
        sizes[id(value)] = size, depth
        left.pop()
    return True
