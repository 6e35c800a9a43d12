"""Data flows one way: who may import whom, read from the code, not from a run."""

import ast
import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from images import write_photos

ROOT = Path(__file__).parents[1]

# Data flows down this list: a part imports only what stands above it.
ORDER = (
    "_version", "errors", "tabular", "types", "metrics",
    "utils",
    "sources",
    "decode",
    "backbones",
    "engines",
    "store",
    "distributed",
    "extraction",
    "report",
    "index",
    "retrieval",
    "dedup",
    "analysis",
    "exporters",
    "probe",
    "integrations", "sklearn", "torch",
    "demo",
    "server",
    "client",
)  # fmt: skip

# A third-party library, and the parts that may import it.
HOMES = {
    "pandas": {"store", "tabular"},
    "polars": {"store", "tabular"},
    "braceexpand": {"sources"},
    "h5py": {"store"},
    "cv2": {"dedup"},
    "faiss": {"dedup", "index"},
    "timm": {"backbones", "engines"},
    "triton": {"decode"},
    "torch": {"backbones", "decode", "dedup", "engines", "integrations", "probe", "utils"},
    "simplejpeg": {"decode"},
    "nncf": {"engines"},
    "openvino": {"engines"},
    "safetensors": {"backbones", "probe"},
    "filelock": {"backbones", "index", "server", "utils"},
    "aiohttp": {"sources"},
    "fsspec": {"sources"},
    "huggingface_hub": {"backbones"},
    "platformdirs": {"backbones"},
    "prometheus_client": {"server"},
    "pyarrow": {"dedup", "exporters", "retrieval", "sources", "utils"},
    "ray": {"distributed"},
    "rich": {"utils"},
    "scipy": {"dedup"},
    "threadpoolctl": {"utils"},
    "jinja2": {"report"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "markupsafe": {"report"},
    "lancedb": {"exporters"},
    "matplotlib": {"analysis", "report"},
    "umap": {"analysis"},
    "skimage": {"demo"},
    "sklearn": {"demo", "integrations"},
    "PIL": {"decode", "dedup", "demo", "extraction", "integrations", "report"},
    "pillow_heif": {"decode"},
    "pillow_jxl": {"decode"},
    "tifffile": {"decode"},
}  # fmt: skip

MODULES = sorted((ROOT / "embedkit").rglob("*.py"))


def part_of(path):
    return path.relative_to(ROOT / "embedkit").with_suffix("").parts[0]


def imports(path):
    """All absolute names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_stands_before_it(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("embedkit.")}
    assert inner - {part} <= {*ORDER[: ORDER.index(part)]}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_third_party_libraries_stay_at_home(path):
    outer = {name.split(".")[0] for name in imports(path)}
    strangers = {name for name in outer & HOMES.keys() if part_of(path) not in HOMES[name]}
    assert not strangers
    assert "embedkit_cli" not in outer or part_of(path) == "__main__"
    assert "typer" not in outer


def test_every_third_party_library_has_a_home():
    known = {*HOMES, *sys.stdlib_module_names, "embedkit", "embedkit_cli", "numpy", "__future__"}
    for path in MODULES:
        assert {name.split(".")[0] for name in imports(path)} <= known, path


def test_the_picture_of_the_architecture_is_current():
    loader = importlib.machinery.SourceFileLoader(
        "architecture", str(ROOT / "scripts/architecture")
    )
    spec = importlib.util.spec_from_loader("architecture", loader)
    script = importlib.util.module_from_spec(spec)
    loader.exec_module(script)
    assert script.page() == (ROOT / "docs" / "architecture.md").read_text("utf-8"), (
        "run scripts/architecture"
    )


def test_cli_imports_itself_relatively_and_nothing_heavy_at_the_top():
    for path in (ROOT / "cli").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {node.module.split(".")[0]}
            else:
                continue
            assert names <= {*sys.stdlib_module_names, "typer", "__future__"}, path


HEAVY = (
    "torch", "timm", "openvino", "faiss", "scipy", "PIL", "pyarrow", "ray", "safetensors", "numpy",
    "h5py",
)  # fmt: skip


def loaded_by(code, modules=HEAVY):
    """Which of these modules a fresh process holds after running some code."""
    check = f"\nimport sys; print('LOADED', [m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + check], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].removeprefix("LOADED ")


def command(*arguments):
    """Code that runs a command."""
    line = ["embedkit", *map(str, arguments)]
    return (
        f"import sys; sys.argv = {line!r}\nfrom embedkit_cli.main import run\n"
        "try: run()\nexcept SystemExit as exc: assert not exc.code"
    )


@pytest.mark.parametrize(
    "code",
    ["import embedkit", command("--help"), command("models")],
    ids=["import", "help", "models"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    assert loaded_by(code) == "[]"


def test_a_store_is_described_without_what_made_it():
    store = next((ROOT / "tests" / "fixtures").rglob("*.h5"))
    assert loaded_by(command("info", store)) == "['numpy', 'h5py']"


def test_a_second_extraction_needs_no_torch_and_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    write_photos(tmp_path / "photos", 5)
    stores = [tmp_path / "first.h5", tmp_path / "second.h5"]
    wanted = ("torch", "timm", "openvino")
    runs = [
        loaded_by(command("extract", tmp_path / "photos", "-o", store, "-b", "tiny"), wanted)
        for store in stores
    ]
    assert runs == ["['torch', 'timm', 'openvino']", "['openvino']"]
    assert stores[0].read_bytes() == stores[1].read_bytes()
