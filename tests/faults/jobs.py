"""The jobs that are disturbed: how each begins, what it does, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.clustering.cluster import cluster
from embedkit.dedup.api import find_duplicates
from embedkit.dedup.cleanup.apply import apply_plan
from embedkit.dedup.cleanup.plan_csv import write_plan
from embedkit.dedup.output.folder import read_duplicates, write_duplicates
from embedkit.dedup.update import update_duplicates
from embedkit.engines.torch import TorchEngine
from embedkit.errors import EmbedkitError
from embedkit.exporters.export import export
from embedkit.extraction.extract import extract
from embedkit.index import Index, IndexSpec
from embedkit.index.generation import ContentReader
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.index.verify import index_problems
from embedkit.retrieval.results_file import search_to_file
from embedkit.store import EmbeddingStore, merge, verify
from embedkit.store.annotate import set_annotations
from embedkit.utils.atomic_write import remove_left_behind

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 3
_KILLED_AT = 24  # of 50 changes of the disk: the run is planned, no shard is there
READY = (TorchEngine, read_duplicates)  # imported once for all children
_SPEC = IndexSpec(factory="IVF4,Flat", rerank=False)
_EXTRACT = {
    "backbone": "tiny", "engine": "torch", "device": "cpu", "batch_size": 4, "shard_rows": 8,
    "processes": False, "workers": 1,
}  # fmt: skip

State = dict[str, object]
"""What each file or folder of a job holds, by its name; what isn't there isn't in it."""


@dataclass(frozen=True)
class Job:
    """One command in a folder of its own.

    Attributes:
        prepare: Makes the folder's content.
        act: Runs the command; run again, it goes on.
        state: What a folder holds.
    """

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    state: Callable[[Path], State] = lambda folder: contents(folder)


def contents(folder: Path) -> State:
    """All stores, indexes and plain files of a folder.

    Raises:
        AssertionError: One of them can't be read, or is damaged.
    """
    return {
        path.name: content(path)
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and not path.name.endswith(".partial")
    }


def content(path: Path) -> object:
    """What a store, an index or another file or folder holds."""
    if path.suffix == ".index":
        problems = index_problems(path)
        assert problems == [], problems
        with Index.open(path) as index:
            query = np.ones((1, index.dim), np.float32)
            return sorted(index.search(query, len(index)).ids[0])
    if path.suffix == ".h5":
        assert verify(path) == [], path
        with EmbeddingStore.open(path) as store:
            columns = {name: store.images(name).tolist() for name in store.annotations}
            failures = [(one.id, one.reason) for one in store.failures()]
            rows = hashlib.sha256(store.to_numpy().tobytes()).hexdigest()
            return [list(store.ids), rows, failures, columns]
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        str(one.relative_to(path)): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in files
        if one.is_file()
    }


def index_files(folder: Path) -> State:
    """What an index holds, whether or not its store has changed since."""
    manifest = IndexManifest.read(folder / "a.index" / MANIFEST)
    reader = ContentReader(folder / "a.index", manifest)
    roles = {role: reader.checked(role).stat().st_size for role in manifest.files}
    hashes = {role: manifest.files[role].sha256 for role in roles}
    return {"a.index": hashes, "a.h5": content(folder / "a.h5")}


def in_child(action: Callable[[], object]) -> int:
    """Runs something in a child; gives its exit code, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except (EmbedkitError, OSError) as error:  # the command gives one line, and exit code 1
            sys.stderr.write(f"{error}\n")
            code = FAILED
        except BaseException as error:
            import traceback

            traceback.print_exception(error)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write_store(path: Path, first: int, count: int = 300) -> Path:
    from stores import write_store as write

    rows = np.random.default_rng(first).normal(size=(count, 8)).astype(np.float32)
    return write(path, rows, ids=[f"{first + n}.jpg" for n in range(count)])


def stores(folder: Path) -> None:
    write_store(folder / "a.h5", 0)
    write_store(folder / "b.h5", 1000)


def indexed(folder: Path) -> None:
    stores(folder)
    Index.build(folder / "a.h5", folder / "a.index", _SPEC)


def changed(folder: Path) -> None:
    indexed(folder)
    write_store(folder / "a.h5", 100)  # 100 images are gone, 100 new, and the others changed


def removed(folder: Path) -> None:
    indexed(folder)
    Index.remove(folder / "a.index", ["3.jpg", "4.jpg"])


def many_shards(folder: Path) -> None:
    from store_contents import make_content, make_rows, write_folder

    for first, name in enumerate(("s", "t")):
        seeds = range(10 * first, 10 * first + 3)
        shards = [make_content(make_rows(4, seed=seed)) for seed in seeds]
        write_folder(folder / name, shards)


def exported(folder: Path) -> None:
    stores(folder)
    export(folder / "a.h5", folder / "a.npy", to="npy")


def photos(folder: Path) -> None:
    from images import write_photos

    write_photos(folder / "photos", 20, size=(40, 30))
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff not whole")


def embedded(folder: Path) -> None:
    photos(folder)
    embed(folder)


def replaceable(folder: Path) -> None:
    """A store of other photos than those of the folder."""
    embedded(folder)
    (folder / "photos" / "photo_0003.jpg").unlink()


def sharded(folder: Path) -> None:
    photos(folder)
    extract(folder / "photos", folder / "s.h5", sharded=True, **_EXTRACT)


def outdated(folder: Path) -> None:
    embedded(folder)
    (folder / "photos" / "photo_0003.jpg").unlink()
    data = (folder / "photos" / "photo_0004.jpg").read_bytes()
    (folder / "photos" / "new.jpg").write_bytes(data)


def broken_update(folder: Path) -> None:
    """An update was killed before it had saved the new image."""
    from kill_states import CRASHED, crash_at

    outdated(folder)
    code = in_child(lambda: (crash_at(_KILLED_AT, folder), update(folder)))
    assert code == CRASHED, code


def outdated_shards(folder: Path) -> None:
    sharded(folder)
    (folder / "photos" / "photo_0003.jpg").unlink()


def alike(folder: Path) -> np.ndarray:
    stores(folder)
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    rows = np.concatenate([rows, rows[:20] + 0.001])
    _write_rows(folder / "c.h5", rows)
    return rows


def duplicates(folder: Path) -> None:
    rows = alike(folder)
    find(folder)
    _write_rows(folder / "c.h5", np.concatenate([rows, rows[20:30] + 0.001]))


def _write_rows(path: Path, rows: np.ndarray) -> None:
    from stores import write_store as write

    write(path, rows)


def planned(folder: Path) -> None:
    from crash_driver import make_corpus

    write_plan(make_corpus(folder), folder / "plan.csv")


def embed(folder: Path) -> None:
    extract(folder / "photos", folder / "s.h5", **_EXTRACT)


def embed_over(folder: Path) -> None:
    if (folder / "s.h5").is_file():
        return embed(folder)
    return extract(folder / "photos", folder / "s.h5", overwrite=True, **_EXTRACT)


def embed_anew(folder: Path) -> None:
    extract(folder / "photos", folder / "s.h5", overwrite=True, **_EXTRACT)


def update(folder: Path) -> None:
    extract(folder / "photos", folder / "s.h5", update=True)


def build(folder: Path) -> None:
    Index.build(folder / "a.h5", folder / "a.index", _SPEC)


def rebuild(folder: Path) -> None:
    Index.build(folder / "a.h5", folder / "a.index", IndexSpec(factory="Flat"), overwrite=True)


def add(folder: Path) -> None:
    Index.add(folder / "a.index", folder / "b.h5")


def annotate(folder: Path) -> None:
    set_annotations(folder / "a.h5", {"year": np.arange(300)}, overwrite=True)


def search(folder: Path) -> None:
    search_to_file(folder / "a.index", folder / "b.h5", folder / "found.parquet", part_queries=50)


def find(folder: Path) -> None:
    found = find_duplicates(folder / "c.h5", calibration="cosine", verify=False)
    write_duplicates(found, folder / "duplicates", overwrite=True, report=False)


def find_update(folder: Path) -> None:
    found = update_duplicates(folder / "duplicates", calibration="cosine")
    write_duplicates(found, folder / "duplicates", overwrite=True, report=False)


def duplicates_state(folder: Path) -> State:
    before: State = {"c.h5": content(folder / "c.h5")}
    remove_left_behind(folder / "duplicates")  # puts back what a killed run was replacing
    if not (folder / "duplicates").exists():
        return before
    found = read_duplicates(folder / "duplicates")
    pairs = list(zip(found.pairs.first.tolist(), found.pairs.second.tolist(), strict=True))
    return {"duplicates": pairs, **before}


def apply(folder: Path) -> None:
    apply_plan(folder / "plan.csv", "move", to=folder / "away", execute=True)


def moved_state(folder: Path) -> State:
    """Where the bytes of each image are: at one place or, between two steps, at two."""
    images = folder / "images"
    found: State = {}
    for path in sorted([*images.rglob("*.jpg"), *folder.joinpath("away").rglob("*.jpg")]):
        if path.stat().st_size:
            name = path.relative_to(images if images in path.parents else _away(folder))
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _away(folder: Path) -> Path:
    return Path(f"{folder / 'away'}{folder / 'images'}")


JOBS = {
    "build": Job(stores, build),
    "rebuild": Job(indexed, rebuild),
    "add": Job(indexed, add),
    "index-update": Job(
        changed, lambda folder: Index.update(folder / "a.index"), state=index_files
    ),
    "compact": Job(removed, lambda folder: Index.compact(folder / "a.index")),
    "merge": Job(
        stores,
        lambda folder: merge(
            [folder / "a.h5", folder / "b.h5"], folder / "m.h5", overwrite=True
        ),
    ),
    "merge-shards": Job(
        many_shards,
        lambda folder: merge([folder / "s", folder / "t"], folder / "m.h5", overwrite=True),
    ),
    "export": Job(
        exported,
        lambda folder: export(folder / "a.h5", folder / "a.npy", to="npy", overwrite=True),
    ),
    "extract": Job(photos, embed),
    "extract-over": Job(sharded, embed_over),
    "extract-again": Job(replaceable, embed_anew),
    "update": Job(outdated, update),
    "update-again": Job(broken_update, update),
    "update-shards": Job(outdated_shards, update),
    "annotate": Job(stores, annotate, ),
    "cluster": Job(
        stores,
        lambda folder: cluster(folder / "a.h5", k=4, write=True, overwrite=True),
    ),
    "search": Job(indexed, search),
    "find": Job(alike, find, state=duplicates_state),
    "find-update": Job(
        duplicates, find_update, state=duplicates_state
    ),
    "apply": Job(
        planned, apply,
        state=moved_state,
    ),
}  # fmt: skip


def _modules() -> str:
    """The names of all modules that this process has imported."""
    return "\n".join(name for name in sys.modules if name != "__main__")


class Scene:
    """A job in a folder: as it is prepared, and what an undisturbed run makes of it."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.work, self._base = job, folder / "work", folder / "base"
        self.work.mkdir(parents=True)
        assert in_child(lambda: job.prepare(self.work)) == 0
        shutil.copytree(self.work, self._base, symlinks=True)
        self.before = job.state(self.work)
        imported = folder / "imported"
        assert in_child(lambda: (job.act(self.work), imported.write_text(_modules()))) == 0
        for name in imported.read_text().splitlines():  # once for all children
            with suppress(ImportError):
                importlib.import_module(name)
        self.after = job.state(self.work)
        self.names = {path.name for path in self.work.iterdir()}

    def reset(self) -> None:
        """Makes the folder as it was prepared."""
        shutil.rmtree(self.work)
        shutil.copytree(self._base, self.work, symlinks=True)

    def check_between(self) -> State:
        """Each output is the old or the new one, whole; everything else is as it was.

        What is replaced steps aside for a moment, and the next run puts it back. Gives what there
        is now.
        """
        aside = {path.parent.name for path in self.work.glob("*/replaced")}
        now = self.job.state(self.work)
        for name in {*self.before, *self.after, *now}:
            states = [self.before.get(name), self.after.get(name)]
            if any(name in one for one in aside):
                states.append(None)
            assert now.get(name) in states, (name, now.get(name), states)
        return now

    def retry_failed(self) -> None:
        """Embeds the images that couldn't be read; the result is that of an undisturbed run."""
        store = self.work / "s.h5"
        code = in_child(lambda: extract(self.work / "photos", store, retry_failed=True))
        assert code == 0, code
        now = self.job.state(self.work)
        assert now == self.after, (now, self.after)

    def finish(self) -> None:
        """Runs the job to its end; the result is that of an undisturbed run, and nothing else."""
        code = in_child(lambda: self.job.act(self.work))
        assert code in {0, FAILED}, code  # an index that is whole already is an error
        now = self.job.state(self.work)
        assert now == self.after, (now, self.after)
        extra = {path.name for path in self.work.iterdir()} - self.names
        assert not extra, extra
