"""Images that are copied together with their store: no action guesses which of the two is meant."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tarfile

import pytest
from duplicates import make_found, make_pairs

from embedkit.dedup import apply_plan, make_plan, purge_journal, undo_journal, write_plan
from embedkit.dedup.cleanup.plan_csv import read_plan
from embedkit.errors import DedupError

NAMES = ("photos/a.jpg", "photos/b.jpg")


@pytest.fixture
def old(tmp_path, monkeypatch):
    folder = tmp_path / "old"
    (folder / "photos").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(b"same bytes")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def new(old, monkeypatch):
    return copied(old, monkeypatch)


def copied(old, monkeypatch):
    folder = old.with_name("new")
    shutil.copytree(old, folder)
    monkeypatch.chdir(folder)
    return folder


def found_in(old, names=NAMES, root=None, folder=None):
    """Two images of equal bytes, of a store that was made in ``old``."""
    pairs = make_pairs({(0, 1): 1.0}, 2, exact=[(0, 1)])
    found = make_found(pairs, names, root=old)
    store = dataclasses.replace(found.store, roots=(str(root or old),))
    return dataclasses.replace(found, store=store, folder=folder)


def places(rows):
    return [(row.action, row.path) for row in rows]


def kept_and_removed(folder, names=NAMES):
    return [("keep", f"{folder}/{names[0]}"), ("remove", f"{folder}/{names[1]}")]


def test_a_plan_is_of_the_folder_of_the_store_where_only_that_is_there(old, monkeypatch):
    monkeypatch.chdir("/")
    assert places(make_plan(found_in(old), "first")) == kept_and_removed(old)


def test_a_plan_made_in_a_copy_is_refused(old, new):
    with pytest.raises(DedupError) as caught:
        make_plan(found_in(old), "first")
    assert all(part in str(caught.value) for part in ("photos/", str(old), str(new), "root="))
    for root in (old, new):
        assert places(make_plan(found_in(old), "first", root=root)) == kept_and_removed(root)


def test_a_plan_made_elsewhere_of_the_copys_duplicates_is_refused(old, new, monkeypatch):
    monkeypatch.chdir("/")
    with pytest.raises(DedupError, match="root="):
        make_plan(found_in(old, folder=new / "duplicates"), "first")


def test_one_image_in_both_folders_is_enough(old, new):
    (new / NAMES[0]).unlink()
    with pytest.raises(DedupError, match=NAMES[1]):
        make_plan(found_in(old), "first")


def test_a_moved_folder_is_the_only_one(old, new):
    shutil.rmtree(old / "photos")
    assert places(make_plan(found_in(new, root=old), "first")) == kept_and_removed(new)


def test_a_folder_that_is_linked_is_the_same(old, tmp_path, monkeypatch):
    new = tmp_path / "new"
    new.mkdir()
    (new / "photos").symlink_to(old / "photos")
    monkeypatch.chdir(new)
    assert places(make_plan(found_in(old), "first")) == kept_and_removed(old)


def test_hard_links_are_other_names(old, tmp_path, monkeypatch):
    new = tmp_path / "new"
    shutil.copytree(old, new, copy_function=os.link)
    monkeypatch.chdir(new)
    with pytest.raises(DedupError, match="root="):
        make_plan(found_in(old), "first")


def test_ids_with_a_prefix(old, new):
    names = [f"pets/{name}" for name in NAMES]
    hashes = {"content_hash": found_in(old).images.content_hash}
    found = make_found(make_pairs({(0, 1): 1.0}, 2, exact=[(0, 1)]), names, **hashes)
    found = dataclasses.replace(
        found,
        store=dataclasses.replace(found.store, roots=(str(old / "<pets>"),)),
        images=dataclasses.replace(found.images, nbytes=found_in(old).images.nbytes),
    )
    with pytest.raises(DedupError) as caught:
        make_plan(found, "first")
    assert f"is in {old} and in {new}" in str(caught.value)
    rows = make_plan(found, "first", root=new)
    assert places(rows) == kept_and_removed(new)
    plan = write_plan(rows, old / "plan.csv")
    with pytest.raises(DedupError, match=f"is in {new} and in {old}"):
        apply_plan(plan, "list")


def test_members_of_archives(old, monkeypatch):
    with tarfile.open(old / "x.tar", "w") as archive:
        archive.add("photos")
    names = [f"x.tar#{name}" for name in NAMES]
    found = found_in(old, names)
    new = copied(old, monkeypatch)
    with pytest.raises(DedupError, match=r"^x\.tar is in"):
        make_plan(found, "first")
    assert places(make_plan(found, "first", root=new)) == kept_and_removed(new, names)


def test_absolute_ids_have_one_meaning(old, new):
    names = [str(old / name) for name in NAMES]
    rows = make_plan(found_in(old, names), "first")
    assert places(rows) == kept_and_removed(old)
    assert apply_plan(write_plan(rows, new / "plan.csv"), "list").count("done") == 1


def plan_of(old):
    return write_plan(make_plan(found_in(old), "first", root=old), old / "plan.csv")


def test_a_plan_is_not_applied_in_a_copy(old, monkeypatch):
    plan = plan_of(old)
    assert apply_plan(plan, "delete").count("done") == 1
    new = copied(old, monkeypatch)
    for folder, which in ((new, plan), ("/", new / "plan.csv")):
        monkeypatch.chdir(folder)
        with pytest.raises(DedupError) as caught:
            apply_plan(which, "delete", execute=True)
        assert all(part in str(caught.value) for part in (str(old), str(new), "root="))
    assert (old / NAMES[1]).exists()
    with pytest.raises(DedupError, match=f"is of the files in {old}"):
        apply_plan(plan, "delete", root=new, execute=True)
    assert apply_plan(plan, "delete", root=old, execute=True).count("done") == 1
    assert not (old / NAMES[1]).exists()
    assert (new / NAMES[1]).exists()


def test_a_plan_through_a_link_is_applied(old, tmp_path, monkeypatch):
    new = tmp_path / "new"
    new.mkdir()
    (new / "photos").symlink_to(old / "photos")
    monkeypatch.chdir(new)
    for options in ({}, {"root": new}, {"root": old}):
        assert apply_plan(plan_of(old), "list", **options).count("done") == 1
        (old / "plan.csv").unlink()


def test_root_is_not_for_archives(old):
    with pytest.raises(ValueError, match="root="):
        apply_plan(plan_of(old), "write", to="x.tar", root=old)


def test_a_copied_journal_is_refused(old, monkeypatch):
    apply_plan(plan_of(old), "delete", execute=True)
    new = copied(old, monkeypatch)
    journal = "plan.csv.journal"
    for use in (undo_journal, purge_journal):
        with pytest.raises(DedupError, match=f"is a copy of {old / journal}"):
            use(new / journal)
    with pytest.raises(DedupError, match="is a copy of"):
        apply_plan(new / "plan.csv", "delete", root=old, execute=True)
    assert undo_journal(old / journal).count("done") == 1
    assert (old / NAMES[1]).exists()


def test_a_renamed_journal_is_used(old):
    plan = plan_of(old)
    apply_plan(plan, "delete", execute=True)
    journal, renamed = old / "plan.csv.journal", old / "earlier.journal"
    journal.rename(renamed)
    assert undo_journal(renamed).count("done") == 1
    apply_plan(plan, "symlink", execute=True)
    assert read_plan(plan).rows
    assert undo_journal(renamed).outcomes == ()  # another journal has its name now


def test_ids_that_are_no_paths_say_nothing_of_folders(old, monkeypatch):
    rows = [dataclasses.replace(row, id="x") for row in read_plan(plan_of(old)).rows]
    plan = write_plan(rows, old / "plan.csv", overwrite=True)
    monkeypatch.chdir(old.parent)
    assert apply_plan(plan, "list").count("done") == 1
