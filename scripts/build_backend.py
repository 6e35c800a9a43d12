"""setuptools' build backend, but building the same commit twice gives the same bytes.

The time of all files in an archive is ``SOURCE_DATE_EPOCH``, or else that of the commit.
"""

import gzip
import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Builds a source distribution; returns its name."""
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    _repack(Path(sdist_directory, name), _time())
    return name


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Builds a wheel, in which setuptools sets the times; returns its name."""
    os.environ["SOURCE_DATE_EPOCH"] = str(_time())
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name


def _time() -> int:
    """Seconds since 1970; of a source distribution, those that its files have."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)
    except (OSError, subprocess.CalledProcessError):  # no git, or not in it
        return int(Path("pyproject.toml").stat().st_mtime)


def _repack(path: Path, time: int) -> None:
    """Writes an archive anew: members by name, one time, no owner."""
    with tarfile.open(path) as old:
        members = sorted(old.getmembers(), key=lambda member: member.name)
        contents = [old.extractfile(one).read() if one.isfile() else b"" for one in members]  # type: ignore[union-attr]
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member, content in zip(members, contents, strict=True):
            member.mtime, member.uid, member.gid = time, 0, 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=time))
