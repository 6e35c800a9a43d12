from __future__ import annotations

import hashlib
import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from images import draw_photo, encode

from embedkit.dedup import apply_plan, write_plan
from embedkit.dedup.cleanup.compare import compared_mark
from embedkit.dedup.cleanup.plan import PlanRow
from embedkit.errors import DedupError


def jpeg(seed):
    return encode(draw_photo(seed), "JPEG")


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def row(action, place, data, kept="", kept_data=b"", compared=None):
    hashes = [hashlib.sha256(one).hexdigest() for one in (data, kept_data)]
    mark = compared_mark(*hashes) if kept else ""
    return PlanRow(
        0, action, place, place, kept, hashes[0], 1, 1, len(data), "JPEG", None, "",
        mark if compared is None else compared,
    )  # fmt: skip


@pytest.fixture
def shards(tmp_path):
    a, b = jpeg(seed=1), jpeg(seed=2)
    with tarfile.open(tmp_path / "s0.tar", "w") as tar:
        for name, data in (
            ("x/0.jpg", a), ("x/0.cls", b"0"), ("x/1.jpg", b), ("x/1.json", b"{}"),
            ("f_0.25.jpg", a), ("f_0.25.cls", b"25"), ("f_0.50.jpg", b), ("f_0.50.cls", b"50"),
            ("README", b"hello"),
        ):  # fmt: skip
            add(tar, name, data)
    with tarfile.open(tmp_path / "s1.tar", "w") as tar:
        add(tar, "2.jpg", a)
        add(tar, "2.txt", b"caption")
    return tmp_path, a, b


def names(path):
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_shards_are_copied_without_what_goes(shards):
    folder, a, b = shards
    first = f"{folder}/s0.tar#x/0.jpg"
    rows = [
        row("keep", first, a),
        row("remove", f"{folder}/s0.tar#f_0.25.jpg", a, first, a),
        row("remove", f"{folder}/s1.tar#2.jpg", a, first, a),
    ]
    plan = write_plan(rows, folder / "plan.csv")
    options = {
        "to": folder / "clean-{00000..}.tar",
        "images": [folder / "s0.tar", folder / "s1.tar"],
    }
    dry = apply_plan(plan, "write", **options)
    assert (dry.count("done"), dry.nbytes, dry.written) == (2, 2 * len(a), ())
    assert not list(folder.glob("clean*"))
    done = apply_plan(plan, "write", execute=True, **options)
    assert [path.name for path in done.written] == ["clean-00000.tar", "clean-00001.tar"]
    assert names(done.written[0]) == [
        "x/0.jpg", "x/0.cls", "x/1.jpg", "x/1.json", "f_0.50.jpg", "f_0.50.cls", "README",
    ]  # fmt: skip
    assert names(done.written[1]) == []
    with tarfile.open(done.written[0]) as tar:
        assert tar.extractfile("x/1.jpg").read() == b
    with pytest.raises(DedupError, match="overwrite=True"):
        apply_plan(plan, "write", execute=True, **options)
    with pytest.raises(DedupError, match="need numbers"):
        apply_plan(plan, "write", **options | {"to": folder / "clean.tar"})


def test_what_goes_from_an_archive_is_checked(shards):
    folder, a, b = shards
    first, other = f"{folder}/s0.tar#x/0.jpg", f"{folder}/s0.tar#x/1.jpg"
    rows = [
        row("keep", first, a),
        row("remove", other, b, first, a, compared=""),
        row("remove", f"{folder}/s1.tar#2.jpg", b, first, a),
    ]
    plan = write_plan(rows, folder / "plan.csv")
    done = apply_plan(
        plan, "write", to=folder / "clean{0..}.tar", execute=True,
        images=[folder / "s0.tar", folder / "s1.tar"],
    )  # fmt: skip
    reasons = [outcome.reason for outcome in done.outcomes]
    assert reasons[0].startswith("not verified: ")
    assert "other bytes" in reasons[1]
    assert [names(path) for path in done.written] == [
        names(folder / "s0.tar"), names(folder / "s1.tar"),
    ]  # fmt: skip
    alone = apply_plan(plan, "write", to=folder / "c.tar", images=[folder / "s1.tar"])
    assert "not in the archives" in alone.outcomes[0].reason
    assert apply_plan(plan, "list").outcomes[0].reason.startswith("inside an archive")
    with pytest.raises(DedupError, match="images="):
        apply_plan(plan, "write", to=folder / "c.tar")


def test_parquet_is_copied_without_rows(tmp_path):
    data = [jpeg(seed=n) for n in (1, 2, 1, 3)]
    image = pa.array([{"bytes": one, "path": f"{n}.jpg"} for n, one in enumerate(data)])
    table = pa.table({"image": image, "label": [0, 1, 0, 1]}).replace_schema_metadata({"k": "v"})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    first = f"{tmp_path}/t.parquet#0.jpg"
    rows = [
        row("keep", first, data[0]),
        row("remove", f"{tmp_path}/t.parquet#2.jpg", data[2], first, data[0]),
    ]
    plan = write_plan(rows, tmp_path / "plan.csv")
    done = apply_plan(
        plan, "write", to=tmp_path / "clean.parquet", images=[tmp_path / "t.parquet"], execute=True
    )
    written = pq.read_table(done.written[0])
    assert written["label"].to_pylist() == [0, 1, 1]
    assert written.schema.metadata[b"k"] == b"v"
