"""What an index says of itself: ``manifest.json``, sealed with its own hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from embedkit.errors import IndexCorruptError, IndexFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMAT_NAME", "FORMAT_VERSION", "MANIFEST", "IndexManifest", "Metric"]

MANIFEST = "manifest.json"
FORMAT_NAME = "embedkit-index"
FORMAT_VERSION = 1

Metric = Literal["cosine", "ip", "l2"]


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What an index says of itself.

    Attributes:
        factory: The faiss factory string.
        metric: ``cosine``, ``ip`` or ``l2``.
        dim: D.
        count: N.
        meta: ``StoreMeta.to_config()`` of the (first) store.
        files: File name to SHA-256 (hex).
        embedkit_version: The version that built the index.
    """

    factory: str
    metric: Metric
    dim: int
    count: int
    meta: dict[str, Any]
    files: dict[str, str]
    embedkit_version: str

    def to_json(self) -> bytes:
        """The manifest as a file; ``read`` gives it back."""
        content = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps({**content, "sha256": _digest(content)}, indent=1).encode()

    @classmethod
    def read(cls, path: Path) -> IndexManifest:
        """Reads and checks a manifest.

        Raises:
            IndexFileError: There is none, or one of another format.
            IndexCorruptError: It isn't as it was written.
        """
        content = _read_json(path)
        if content.get("format") != FORMAT_NAME:
            raise IndexFileError(f"{path}: not the manifest of an embedkit index")
        if content.get("format_version") != FORMAT_VERSION:
            version = content.get("format_version")
            raise IndexFileError(f"{path}: format {version}; this embedkit reads {FORMAT_VERSION}")
        if content.pop("sha256", None) != _digest(content):
            raise IndexCorruptError(f"{path}: was changed or damaged; build the index again")
        del content["format"], content["format_version"]
        return cls(**content)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise IndexFileError(f"{path.parent}: not an embedkit index (no {path.name})") from exc
    except OSError as exc:
        raise IndexFileError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise IndexCorruptError(f"{path}: damaged: {exc}; build the index again") from exc
    return content if isinstance(content, dict) else {}
