"""Files in embedkit's cache, by key; a file is used only if its stored hash matches."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["CachedFiles", "file_sha256", "hash_code"]

_log = logging.getLogger("embedkit")


@dataclass(frozen=True, slots=True)
class CachedFiles:
    """A few files that belong together: ``KEY.SUFFIX`` each, and their hashes in ``KEY.json``.

    Attributes:
        folder: The cache folder; created if missing.
        key: Decides what is in the files.
        suffixes: Suffixes of the files, without the dot.
    """

    folder: Path
    key: str
    suffixes: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any], *suffixes: str) -> CachedFiles:
        """The files for these settings, which are all that decides their content."""
        text = json.dumps(settings, sort_keys=True, default=str)
        return cls(folder, hashlib.sha256(text.encode()).hexdigest()[:32], suffixes)

    def find(self) -> Path | None:
        """Their path without suffix if they exist and are intact; logs a damaged one."""
        stem = self.folder / self.key
        try:
            hashes = json.loads(_member(stem, "json").read_bytes())
            for suffix in self.suffixes:
                if hashes[suffix] != file_sha256(_member(stem, suffix)):
                    _log.warning("%s: damaged, made anew", _member(stem, suffix))
                    return None
        except FileNotFoundError:
            _log.debug("not in the cache: %s.*", stem)
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            _log.warning("%s: can't be read (%s), made anew", _member(stem, "json"), exc)
            return None
        _log.debug("from the cache: %s.*", stem)
        return stem

    def keep(self, write: Callable[[Path], None]) -> bool:
        """Writes the files, each under its own name only when all are whole.

        Args:
            write: Writes them all; takes their path without suffix.

        Returns:
            False if the folder can't be written, which is logged.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as own:
                stem = Path(own, self.key)
                write(stem)
                hashes = {name: file_sha256(_member(stem, name)) for name in self.suffixes}
                _member(stem, "json").write_text(json.dumps(hashes))
                for suffix in (*self.suffixes, "json"):  # the hashes last
                    _member(stem, suffix).replace(_member(self.folder / self.key, suffix))
        except OSError as exc:
            _log.info("can't write the cache folder %s: %s", self.folder, exc.strerror or exc)
            return False
        return True


def _member(stem: Path, suffix: str) -> Path:
    return stem.with_suffix(f".{suffix}")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits, read in pieces.

    Raises:
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_code(paths: Iterable[Path]) -> str:
    """The SHA-256 of source files together, so that what older code made is not taken for new."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
