"""A manifest: one JSON file that names its format and holds its own hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedkit.errors import EmbedkitError

__all__ = ["ManifestFormat"]

_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class ManifestFormat:
    """A kind of manifest, and the errors about one that can't be read.

    Attributes:
        name: Its format, such as ``embedkit-index``.
        version: The version that is written.
        what: What the folder of such a manifest is, in words: ``an embedkit index``.
        way_out: What to do about a damaged one.
        missing: Raised if there is none.
        other: Raised if it is of another format or version.
        damaged: Raised if it was changed or can't be parsed.
        older: Versions that can be read, besides ``version``.
    """

    name: str
    version: int
    what: str
    way_out: str
    missing: type[EmbedkitError]
    other: type[EmbedkitError]
    damaged: type[EmbedkitError]
    older: tuple[int, ...] = ()

    def encode(self, content: Mapping[str, Any]) -> bytes:
        """The bytes of a manifest; ``read`` gives the content back."""
        whole = {"format": self.name, "format_version": self.version, **content}
        whole = json.loads(json.dumps(whole))
        return json.dumps({**whole, "sha256": _digest(whole)}, indent=1).encode()

    def read(self, path: Path) -> dict[str, Any]:
        """Reads and checks a manifest; its content has ``format_version`` among its keys.

        A manifest without a hash was written by an older version, and is taken as it is.

        Raises:
            EmbedkitError: ``missing``, ``other`` or ``damaged``.
        """
        content = self._load(path)
        if not isinstance(content, dict) or content.get("format") != self.name:
            raise self.other(f"{path}: not the manifest of {self.what}")
        version = content.get("format_version")
        if version not in {self.version, *self.older}:
            raise self.other(
                f"{path}: {self.name} format {version!r}; this embedkit reads format "
                f"{self.version}, a newer one may read more"
            )
        if "sha256" in content and content.pop("sha256") != _digest(content):
            raise self.damaged(f"{path}: was changed or damaged; {self.way_out}")
        del content["format"]
        return content

    def _load(self, path: Path) -> Any:
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise self.damaged(f"{path}: larger than a manifest can be; {self.way_out}")
            return json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise self.missing(
                f"{path.parent}: not {self.what} (no {path.name} in the folder)"
            ) from exc
        except OSError as exc:
            raise self.missing(f"{path}: can't be read: {exc.strerror or exc}") from exc
        except (ValueError, RecursionError) as exc:
            raise self.damaged(f"{path}: damaged: {exc}; {self.way_out}") from exc


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
