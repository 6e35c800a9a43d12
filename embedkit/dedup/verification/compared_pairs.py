"""The pairs that a search has compared, kept in a file: an interrupted search goes on with them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from embedkit.dedup.verification.geometric import Evidence
from embedkit.errors import StoreCorruptError, StoreError
from embedkit.utils.working_dir import WorkingDir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Pair = tuple[int, int]
    Compare = Callable[[Sequence[Pair]], list[Evidence | None]]

__all__ = ["ComparedPairs"]

_VERSION = 4  # of the evidence: counted up when comparing gives something else
_FILE = "compared.jsonl"


class ComparedPairs(WorkingDir):
    """The working folder of a search; get it from ``ComparedPairs.locked``."""

    own_names: ClassVar[re.Pattern[str]] = re.compile(re.escape(_FILE))

    def begin(self, settings: Mapping[str, Any]) -> int:
        """Goes on with the pairs of an earlier run of the same settings, or starts anew.

        Args:
            settings: Which images are compared, and how.

        Returns:
            How many pairs are compared already.

        Raises:
            StoreError: The folder can't be written.
        """
        settings = {"version": _VERSION, **settings}
        if self._frozen_or_none() != json.loads(json.dumps(settings)):
            self.clear()
            self.freeze(settings)
        self._known: dict[Pair, Evidence | None] = dict(self._read())
        return len(self._known)

    def kept(self, compare: Compare) -> Compare:
        """Compares pairs as ``compare`` does, each once in all runs; those that it could."""

        def of(pairs: Sequence[Pair]) -> list[Evidence | None]:
            missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
            found = dict(zip(missing, compare(missing), strict=True)) if missing else {}
            self._append(found)
            self._known |= found
            return [self._known[pair] for pair in pairs]

        return of

    def _frozen_or_none(self) -> dict[str, Any] | None:
        try:
            return self.frozen()
        except StoreCorruptError:
            return None

    def _read(self) -> list[tuple[Pair, Evidence]]:
        """What is kept, up to a line that was being written when the run ended."""
        found: list[tuple[Pair, Evidence]] = []
        try:
            lines = self.path(_FILE).read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return found
        except OSError as exc:
            raise StoreError(f"{self.path(_FILE)}: can't be read: {exc.strerror or exc}") from exc
        for number, line in enumerate(lines):
            try:
                found.append(_decoded(line))
            except (ValueError, TypeError, KeyError, RecursionError):
                self.keep(_FILE, b"".join(lines[:number]))
                break
        return found

    def _append(self, found: Mapping[Pair, Evidence | None]) -> None:
        lines = "".join(
            json.dumps([*pair, one.to_json()]) + "\n"
            for pair, one in found.items()
            if one is not None
        )
        try:
            with self.path(_FILE).open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as exc:
            raise StoreError(
                f"{self.path(_FILE)}: can't be written: {exc.strerror or exc}"
            ) from exc


def _decoded(line: bytes) -> tuple[Pair, Evidence]:
    first, second, found = json.loads(line)
    if not line.endswith(b"\n"):
        raise ValueError("cut off")
    return (int(first), int(second)), Evidence.from_json(found)
