"""The exceptions that embedkit raises.

::

    EmbedkitError
    ├─ SourceError                 a folder, archive or list can't be read at all
    │  └─ NothingEmbeddedError     not one image could be embedded: failures
    ├─ DecodeError                 one image can't be read or decoded: id, reason
    ├─ BackboneError
    │  ├─ UnknownBackboneError     no such name: name, suggestions
    │  └─ WeightsError             weights missing, damaged, or of another network
    ├─ StoreError
    │  ├─ StoreMismatchError       created with different settings: differences
    │  ├─ StoreFormatError         not an embedkit store, or of a newer format
    │  ├─ StoreCorruptError        a checksum or a count is wrong
    │  └─ StoreLockedError         another process is writing
    ├─ IndexFileError
    │  ├─ IndexMismatchError       query embedded with other settings than the index
    │  └─ IndexCorruptError        the index's hash is wrong
    ├─ ServiceError                a search service can't be reached, or refuses: status
    ├─ DedupError                  a folder of duplicates, a plan or a journal can't be used
    ├─ WorkerError                 a process of a run on several devices failed
    └─ MissingExtraError           also an ImportError; names the pip command

Invalid arguments raise ``ValueError``. Every message is one line: the file, what is wrong with it,
and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BackboneError",
    "DecodeError",
    "DedupError",
    "EmbedkitError",
    "IndexCorruptError",
    "IndexFileError",
    "IndexMismatchError",
    "MissingExtraError",
    "NothingEmbeddedError",
    "ServiceError",
    "SourceError",
    "StoreCorruptError",
    "StoreError",
    "StoreFormatError",
    "StoreLockedError",
    "StoreMismatchError",
    "UnknownBackboneError",
    "WeightsError",
    "WorkerError",
]


class EmbedkitError(Exception):
    """Base of all errors that embedkit raises on purpose."""


class SourceError(EmbedkitError):
    """A source of images can't be listed at all."""


class NothingEmbeddedError(SourceError):
    """Not one image of a source could be embedded, so no store was written.

    Attributes:
        failures: The first few images that failed, as ``ImageFailure`` objects.
    """

    def __init__(self, message: str, failures: Sequence[Any]) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class ServiceError(EmbedkitError):
    """A search service can't be reached, or refuses a request.

    Attributes:
        status: The HTTP status; None if it didn't answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class WorkerError(EmbedkitError):
    """A process of a run on several devices failed; what all had done is kept."""


class DecodeError(EmbedkitError):
    """One image can't be read or decoded.

    Attributes:
        image_id: The image's id.
        reason: One line that says why, without the id.
        nbytes: Size of the encoded image, where it was found out only now; else None.
    """

    def __init__(self, image_id: str, reason: str, *, nbytes: int | None = None) -> None:
        super().__init__(f"{image_id}: {reason}")
        self.image_id = image_id
        self.reason = reason
        self.nbytes = nbytes


class BackboneError(EmbedkitError):
    """A backbone can't be built, or can't be used with these settings."""


class UnknownBackboneError(BackboneError):
    """There is no backbone of that name.

    Attributes:
        name: The requested name.
        suggestions: The known names nearest to it, best first.
    """

    def __init__(self, name: str, suggestions: Sequence[str]) -> None:
        hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
        super().__init__(
            f"unknown backbone {name!r}{hint} ('embedkit models' lists them, 'timm:NAME' takes "
            "any other timm model)"
        )
        self.name = name
        self.suggestions = tuple(suggestions)


class WeightsError(BackboneError):
    """Weights are missing, damaged, or belong to another network."""


class StoreError(EmbedkitError):
    """An embedding store can't be read or written."""


class StoreMismatchError(StoreError):
    """Two stores, or a store and a run, have different settings.

    Attributes:
        differences: Setting name to its two values, ``(in the store, now)``.
    """

    def __init__(
        self,
        path: str,
        differences: Mapping[str, tuple[object, object]],
        *,
        way_out: str = "repeat the first settings, write to another file, or start again with "
        "overwrite=True",
    ) -> None:
        changes = "; ".join(f"{key}: {old} != {new}" for key, (old, new) in differences.items())
        super().__init__(f"{path}: was created with different settings ({changes}); {way_out}")
        self.differences = dict(differences)


class StoreFormatError(StoreError):
    """The file is no embedkit store, or one of a format that this version can't read."""


class StoreCorruptError(StoreError):
    """A checksum, a count or a shape in the store is wrong."""


class StoreLockedError(StoreError):
    """Another process is writing this store."""


class IndexFileError(EmbedkitError):
    """An index can't be read or written."""


class IndexMismatchError(IndexFileError):
    """The queries have other embedding settings than the index."""


class IndexCorruptError(IndexFileError):
    """The index's files don't have the hashes that its manifest states."""


class DedupError(EmbedkitError):
    """A folder of duplicates, a plan or a journal can't be read, written or carried out."""


class MissingExtraError(EmbedkitError, ImportError):
    """An optional dependency isn't installed.

    Attributes:
        extra: The extra of embedkit that brings it.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'embedkit[{extra}]'")
        self.extra = extra
