"""A plan as a CSV file that people edit, and back, strictly."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import defaultdict
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from embedkit.dedup.cleanup.paths import decode_name, encode_name, is_plain
from embedkit.dedup.cleanup.plan import Action, PlanRow
from embedkit.errors import DedupError
from embedkit.utils.atomic_write import commit_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Plan", "read_plan", "write_plan"]

_COLUMNS = tuple(field.name for field in fields(PlanRow))
_NEEDED = {"group", "action", "id", "path", "copy_of", "content_hash"}
_DELIMITERS = ",;\t"
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True)
class Plan:
    """A plan that was read, and holds together.

    Attributes:
        path: The file.
        sha256: Of the file, hex.
        rows: What is to become of each image.
    """

    path: Path
    sha256: str
    rows: tuple[PlanRow, ...]

    def keepers(self, row: PlanRow) -> list[PlanRow]:
        """The kept rows that a row may go for, the one that it is a copy of first.

        Besides that one, those of its group that have the same bytes as it, or as the row itself.
        What else is kept in the group may be connected with the row through others only.
        """
        original = row.group, row.copy_of
        hashes = dict.fromkeys((self._hashes.get(original, ""), row.content_hash))
        found = [other for digest in hashes for other in self._kept.get((row.group, digest), ())]
        return sorted(found, key=lambda other: other.path != row.copy_of)

    @cached_property
    def _hashes(self) -> dict[tuple[int, str], str]:
        return {(row.group, row.path): row.content_hash for row in self.rows if row.path}

    @cached_property
    def _kept(self) -> dict[tuple[int, str], list[PlanRow]]:
        kept = defaultdict(list)
        for row in self.rows:
            if row.action == "keep":
                kept[row.group, row.content_hash].append(row)
        return kept


def write_plan(
    rows: Iterable[PlanRow], path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes a plan; ids and paths as ``encode_name`` writes them.

    Raises:
        DedupError: ``path`` exists.
        StoreError: It can't be written.
    """
    path = Path(path)
    if (path.exists() or path.is_symlink()) and not (overwrite and path.is_file()):
        hint = "overwrite=True replaces it" if path.is_file() else "choose another output"
        raise DedupError(f"{path}: exists already; {hint}")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(map(_to_cells, rows))
    commit_bytes(path, text.getvalue().encode())
    return path


def _to_cells(row: PlanRow) -> list[object]:
    return [
        row.group,
        row.action,
        encode_name(row.id),
        encode_name(row.path),
        encode_name(row.copy_of),
        f"sha256:{row.content_hash}",
        row.width,
        row.height,
        row.nbytes,
        encode_name(row.format),
        "" if row.score is None else f"{row.score:.4f}",
        encode_name(row.reason),
        row.compared,
    ]


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Reads a plan, as it was written or as a spreadsheet saved it.

    The columns may be in another order, more of them may be there, rows may be gone, and commas,
    semicolons or tabs may divide them. Whatever else isn't as it should be is refused.

    Raises:
        DedupError: It can't be read, or doesn't hold together; the message names the line.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as exc:
        raise DedupError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise DedupError(f"{path}: not UTF-8; save it as 'CSV UTF-8'") from exc
    rows: list[PlanRow] = []
    lines: list[int] = []
    for line, cells in _cells(path, text):
        try:
            rows.append(_from_cells(cells))
        except ValueError as exc:
            raise DedupError(f"{path}: line {line}: {exc}") from exc
        lines.append(line)
    _check_paths(path, rows, lines)
    plan = Plan(path, hashlib.sha256(data).hexdigest(), tuple(rows))
    groups = {row.group for row in rows if row.action == "keep"}
    for row, line in zip(rows, lines, strict=True):
        if row.action == "remove" and not plan.keepers(row):
            raise DedupError(f"{path}: line {line}: {_unjustified(row, groups)}")
    return plan


def _unjustified(row: PlanRow, groups: set[int]) -> str:
    if row.group not in groups:
        return f"nothing of group {row.group} would be kept"
    if row.copy_of:
        return f"{row.copy_of}, which it is a copy of, isn't kept in its group: keep either"
    return "no file of its bytes is kept: keep it, or name in copy_of what it is a copy of"


def _cells(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line's number and cells by column."""
    header = text.split("\n", 1)[0].strip("\r")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if missing := _NEEDED - set(names):
            raise DedupError(f"{path}: not a plan: no column {', '.join(sorted(missing))}")
        if len(set(names) & _NEEDED) < sum(name in _NEEDED for name in names):
            raise DedupError(f"{path}: a column is there twice")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise DedupError(
                    f"{path}: line {reader.line_num}: {len(cells)} cells, not {len(names)}"
                )
            yield reader.line_num, dict(zip(names, cells, strict=True))
    except csv.Error as exc:
        raise DedupError(f"{path}: line {reader.line_num}: {exc}") from exc


def _from_cells(cells: dict[str, str]) -> PlanRow:
    action: Any = cells["action"].strip()
    if action not in get_args(Action):
        raise ValueError(f"action is {action!r}, not keep, remove or none")
    found = _HASH.fullmatch(cells["content_hash"].strip())
    if found is None:
        raise ValueError("content_hash isn't sha256: and 64 hexadecimal digits")
    if not _NUMBER.fullmatch(cells["group"].strip()):
        raise ValueError(f"group is {cells['group']!r}, no number")
    path, copy_of = decode_name(cells["path"]), decode_name(cells["copy_of"])
    if action != "none" and not path:
        raise ValueError(f"{action}, but there is no path")
    for name in filter(None, (path, copy_of)):
        if not is_plain(name):
            raise ValueError(f"{name}: not an absolute path in its plain form")
    # The rest is for people, and they may have changed it.
    return PlanRow(
        group=int(cells["group"]),
        action=action,
        id=decode_name(cells["id"]),
        path=path,
        copy_of=copy_of,
        content_hash=found[1],
        width=_count(cells, "width"),
        height=_count(cells, "height"),
        nbytes=_count(cells, "nbytes"),
        format=cells.get("format", ""),
        score=None,
        reason=cells.get("reason", ""),
        compared=cells.get("compared", ""),
    )


def _count(cells: dict[str, str], name: str) -> int:
    text = cells.get(name, "").strip()
    return int(text) if _NUMBER.fullmatch(text) else 0


def _check_paths(path: Path, rows: Sequence[PlanRow], lines: Sequence[int]) -> None:
    seen: dict[str, int] = {}
    for row, line in zip(rows, lines, strict=True):
        if not row.path:
            continue
        if row.path in seen:
            raise DedupError(f"{path}: line {line}: {row.path} is in line {seen[row.path]} too")
        seen[row.path] = line
