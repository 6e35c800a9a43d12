"""The review: decisions are on disk, and the plan removes what was accepted and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from images import draw_photo, encode
from PIL import Image
from services import COPIES, serving

import embedkit
from embedkit.errors import DedupError
from embedkit.server.review.desk import GroupFilter, ReviewDesk


@pytest.fixture
def review(client):
    return Review(client)


class Review:
    """The review as its page uses it."""

    def __init__(self, client):
        self.client = client

    def groups(self, query=""):
        return self.client.get(f"/v1/review/groups{query}").json()["groups"]

    def named(self, *names):
        """The group that has images of these names."""
        return next(one for one in self.groups() if {*names} <= {*names_of(one)})

    def act(self, action, group=None, **more):
        body = {"action": action, **({} if group is None else {"group": group["id"]}), **more}
        response = self.client.post("/v1/review/actions", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def plan(self, **body):
        response = self.client.post("/v1/review/plan", json=body)
        assert response.status_code == 201, response.text
        return response.json()


def names_of(group):
    return [one["item"]["name"].rpartition("/")[2] for one in group["members"]]


def ids_of(group, *names):
    return [
        one["item"]["id"]
        for one, name in zip(group["members"], names_of(group), strict=True)
        if name in names
    ]


def removed_by(folder, plan):
    """The names that `embedkit dedup apply` moves away."""
    before = {path.relative_to(folder) for path in (folder / "photos").rglob("*.jpg")}
    embedkit.apply_plan(folder / "dups" / plan["name"], "move", to=folder / "away", execute=True)
    after = {path.relative_to(folder) for path in (folder / "photos").rglob("*.jpg")}
    return {str(path) for path in before - after}


def test_groups_are_as_they_were_found(review):
    found = review.client.get("/v1/review").json()
    assert (found["groups"], found["decided"], found["can_undo"]) == (COPIES + 1, 0, False)
    assert {one["value"]: one["count"] for one in found["kinds"]} == {
        "scaled": COPIES, "same bytes": 1
    }  # fmt: skip
    assert {one["value"]: one["count"] for one in found["folders"]} == {
        "photos/cat": COPIES, "photos/dog": 1
    }  # fmt: skip
    group = review.named("copy_1.jpg")
    (kept,) = [one for one in group["members"] if one["keep"]]
    assert kept["item"]["id"] == group["keeper"]
    assert kept["item"]["name"] == "photos/cat/photo_0001.jpg"
    (other,) = [one for one in group["members"] if not one["keep"]]
    assert (other["edit"], group["score"]) == ("scaled", other["score"])
    assert "verified on the pixels" in other["reason"]


def test_filters_of_groups(review):
    assert len(review.groups("?folder=photos/dog")) == 1
    assert len(review.groups("?kind=scaled")) == COPIES
    assert len(review.groups("?kind=scaled&limit=2&offset=4")) == 1
    assert len(review.groups("?min_score=1")) == 1
    assert len(review.groups("?max_score=0.5")) == 0
    review.act("accept", review.groups()[0])
    assert len(review.groups("?state=pending")) == COPIES
    assert len(review.groups("?state=accepted")) == 1
    assert review.client.get("/v1/review/groups?state=odd").status_code == 400


def test_the_plan_removes_exactly_what_was_accepted(review, folder):
    review.act("accept", review.named("copy_0.jpg"))
    chosen = review.named("copy_1.jpg")
    review.act("keep", chosen, items=ids_of(chosen, "copy_1.jpg"))
    review.act("accept", chosen)
    review.act("reject", review.named("copy_2.jpg"))
    review.act("accept", review.named("same.jpg"))
    # copy_3 and copy_4 stay undecided
    kept = next(one["item"] for one in review.named("same.jpg")["members"] if one["keep"])
    plan = review.plan()
    assert plan["command"] == f"embedkit dedup apply {folder}/dups/review-plan.csv"
    equal = {"photos/dog/same.jpg", "photos/dog/photo_0000.jpg"}
    expected = {
        "photos/cat/copy_0.jpg", "photos/cat/photo_0001.jpg", *(equal - {kept["name"]})
    }  # fmt: skip
    assert removed_by(folder, plan) == expected
    assert (plan["removed"], plan["not_verified"]) == (3, 0)


def test_undecided_groups_are_taken_as_found_only_if_asked_for(review, folder):
    review.act("reject", review.named("copy_2.jpg"))
    assert review.plan(undecided="keep")["removed"] == 0
    plan = review.plan(undecided="as-found")
    assert plan["name"] == "review-plan-2.csv"
    gone = removed_by(folder, plan)
    assert "photos/cat/copy_2.jpg" not in gone
    assert len(gone) == plan["removed"] == COPIES


def test_no_image_goes_that_isnt_shown_to_be_a_copy(review, folder):
    """Merged groups of two photos: whatever a person says, pixels are compared."""
    first, second = review.named("copy_0.jpg"), review.named("copy_1.jpg")
    merged = review.act("merge", first, other=second["id"])
    assert merged["gone"] == [second["id"]]
    group = merged["groups"][0]
    assert len(group["members"]) == 4
    review.act("keep", group, items=ids_of(group, "photo_0000.jpg"))
    review.act("accept", group)
    plan = review.plan()
    assert (plan["removed"], plan["not_verified"]) == (2, 1)
    assert removed_by(folder, plan) == {"photos/cat/copy_0.jpg", "photos/cat/copy_1.jpg"}


def test_a_copy_that_wasnt_found_goes_after_a_merge(folder):
    """Two copies of one photo in two groups: put together, both go, as both are compared."""
    found = embedkit.read_duplicates(folder / "dups")
    desk = ReviewDesk(folder / "dups", (), show_paths=True)
    try:
        place = {name.rpartition("/")[2]: desk.place(name) for name in found.images.ids}
        groups = {
            name: next(one for one in desk.groups(GroupFilter()) if place[name] in one.members)
            for name in ("copy_0.jpg", "same.jpg")
        }
        desk.act("merge", groups["copy_0.jpg"].id, [], groups["same.jpg"].id)
        desk.act("accept", groups["copy_0.jpg"].id, [], "")
        rows = embedkit.read_plan(desk.write_plan(with_undecided=False).path).rows
    finally:
        desk.close()
    actions = {row.id.rpartition("/")[2]: row.action for row in rows}
    assert actions["copy_0.jpg"] == "remove"
    # of the two with the same bytes neither is a copy of the photo that is kept
    assert [actions["same.jpg"], actions["photo_0000.jpg"]].count("keep") >= 1


@pytest.fixture
def framed(tmp_path, monkeypatch):
    """Three photos, and of each an enlarged copy in a frame, which has the better quality."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for seed in range(3):
        photo = draw_photo(seed, (320, 240))
        Path(f"photos/{seed}.jpg").write_bytes(encode(photo, "JPEG"))
        frame = Image.new("RGB", (480, 400), "white")
        frame.paste(Image.open(f"photos/{seed}.jpg").resize((416, 312)), (32, 44))
        frame.save(f"photos/{seed}-framed.png")
    embedkit.extract("photos", "s.h5", backbone="tiny", labels="none")
    embedkit.Index.build("s.h5", "s.index")
    found = embedkit.find_duplicates("s.h5", verify=True, threshold=0.5)
    assert len(found.groups) == 3
    embedkit.write_duplicates(found, "dups", report=False)
    return tmp_path


def kept_names(group):
    return [one["item"]["name"] for one in group["members"] if one["keep"]]


def test_the_original_is_proposed_as_a_plan_would(framed):
    with serving(framed / "s.index", dups=framed / "dups", show_paths=True) as client:
        review = Review(client)
        assert {name for one in review.groups() for name in kept_names(one)} == {
            "photos/0.jpg", "photos/1.jpg", "photos/2.jpg"
        }  # fmt: skip
        first, second, third = review.groups()
        review.act("accept", first)
        undone = review.act("undo")
        assert [kept_names(one) for one in undone["groups"]] == [kept_names(first)]
        # what was seen is what stays, also for a page that was loaded before
        (frame,) = [name for name in names_of(second) if name.endswith(".png")]
        review.act("accept", second, items=ids_of(second, frame))
        review.act("reject", third)
        assert not client.get("/v1/review").json()["removed_images"] > 1
    with serving(framed / "s.index", dups=framed / "dups", show_paths=True) as client:
        again = {one["id"]: one for one in Review(client).groups()}
    assert kept_names(again[second["id"]]) == [f"photos/{frame}"]
    assert again[first["id"]]["state"] == "pending"
    assert kept_names(again[first["id"]]) == kept_names(first)


def test_the_plan_of_groups_that_nobody_changed_is_the_default_one(framed):
    desk = ReviewDesk(framed / "dups", (), show_paths=True)
    try:
        first = desk.groups(GroupFilter())[0]
        desk.act("reject", first.id, [], "")
        written = desk.write_plan(with_undecided=True)
    finally:
        desk.close()
    rows = embedkit.read_plan(written.path).rows
    assert {row.id for row in rows if row.action == "remove"} <= {
        f"photos/{seed}-framed.png" for seed in range(3)
    }
    assert len({row.group for row in rows}) == 2
    assert written.removed + written.not_verified == 2


def test_images_that_are_gone_are_proposed_by_what_is_known(framed):
    shutil.rmtree(framed / "photos")
    with serving(framed / "s.index", dups=framed / "dups", show_paths=True) as client:
        for group in Review(client).groups():
            assert [name.rpartition(".")[2] for name in kept_names(group)] == ["png"]


def test_split_images_stay(review, folder):
    group = review.named("copy_0.jpg")
    changed = review.act("split", group, items=ids_of(group, "copy_0.jpg"))
    assert (changed["groups"], changed["gone"]) == ([], [group["id"]])
    assert review.plan(undecided="as-found")["removed"] == COPIES
    assert "copy_0.jpg" not in {name for one in review.groups() for name in names_of(one)}


def test_decisions_outlive_the_service_and_can_be_taken_back(folder):
    def open_review():
        return serving(folder / "photos.index", dups=folder / "dups")

    with open_review() as client:
        review = Review(client)
        first, second = review.groups()[:2]
        review.act("accept", first)
        review.act("merge", first, other=second["id"])
        review.act("reject", review.groups()[-1])
        before = review.groups()
    with open_review() as client:
        review = Review(client)
        assert review.groups() == before
        assert review.act("undo")["review"]["decided"] == 0
        undone = review.act("undo")
        assert {one["id"] for one in undone["groups"]} == {first["id"], second["id"]}
        assert undone["groups"][0]["state"] == "accepted"
    with open_review() as client:
        review = Review(client)
        assert review.act("undo")["review"] == client.get("/v1/review").json()
        assert not client.get("/v1/review").json()["can_undo"]
        nothing = client.post("/v1/review/actions", json={"action": "undo"})
        assert nothing.status_code == 409


def journal_of(folder):
    (path,) = (folder / "dups").glob("review-*.jsonl")
    return path


def test_a_line_that_was_cut_off_is_dropped(folder):
    with serving(folder / "photos.index", dups=folder / "dups") as client:
        review = Review(client)
        review.act("accept", review.groups()[0])
    whole = journal_of(folder).read_bytes()
    with journal_of(folder).open("ab") as file:
        file.write(b'{"action": "rej')
    with serving(folder / "photos.index", dups=folder / "dups") as client:
        review = Review(client)
        assert client.get("/v1/review").json()["decided"] == 1
        review.act("accept", review.groups()[1])
    lines = journal_of(folder).read_bytes()
    assert lines.startswith(whole)
    assert [json.loads(line)["action"] for line in lines.splitlines()] == ["accept"] * 2


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b"[]\n", b'{"action": "accept", "group": "g99", "items": [], "other": ""}\n'],
)
def test_a_damaged_journal_is_refused(folder, line):
    ReviewDesk(folder / "dups", (), show_paths=False).close()
    with serving(folder / "photos.index", dups=folder / "dups") as client:
        Review(client).act("accept", Review(client).groups()[0])
    with journal_of(folder).open("ab") as file:
        file.write(line)
    with pytest.raises(DedupError, match=r"review-.*line 2"):
        ReviewDesk(folder / "dups", (), show_paths=False)


def test_a_decision_that_cant_be_written_isnt_made(review, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    response = review.client.post(
        "/v1/review/actions", json={"action": "accept", "group": review.groups()[0]["id"]}
    )
    assert response.status_code == 400
    assert "No space left" in response.json()["error"]
    monkeypatch.undo()
    assert review.client.get("/v1/review").json()["decided"] == 0


def test_only_one_process_reviews_a_folder(folder):
    desk = ReviewDesk(folder / "dups", (), show_paths=False)
    with pytest.raises(DedupError, match="another process"):
        ReviewDesk(folder / "dups", (), show_paths=False)
    desk.close()
    ReviewDesk(folder / "dups", (), show_paths=False).close()


def test_a_new_search_keeps_the_review_and_isnt_confused_by_it(folder):
    with serving(folder / "photos.index", dups=folder / "dups") as client:
        Review(client).act("accept", Review(client).groups()[0])
    found = embedkit.find_duplicates("photos.h5", verify=True, threshold=0.9)
    embedkit.write_duplicates(found, folder / "dups", overwrite=True, report=False)
    assert journal_of(folder).exists()
    with serving(folder / "photos.index", dups=folder / "dups") as client:
        assert client.get("/v1/review").json()["decided"] == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "accept", "group": "g99"}, 404),
        ({"action": "accept"}, 404),
        ({"action": "dance", "group": "g0"}, 400),
        ({"action": "keep", "group": "g0", "items": []}, 409),
        ({"action": "keep", "group": "g0", "items": ["0" * 16]}, 409),
        ({"action": "merge", "group": "g0", "other": "g0"}, 409),
        ({"action": "split", "group": "g0", "items": "all"}, 400),
        ({"action": "accept", "group": "g0", "more": 1}, 400),
    ],
)
def test_actions_that_cant_be_done(review, body, status):
    response = review.client.post("/v1/review/actions", json=body)
    assert response.status_code == status
    assert review.client.get("/v1/review").json()["can_undo"] is False


def test_without_near_duplicates_there_is_no_review(folder):
    with serving(folder / "photos.index") as client:
        assert client.get("/v1/info").json()["tabs"]["review"] is False
        assert client.get("/v1/review").status_code == 404


def test_images_that_left_the_index_are_still_listed(folder):
    embedkit.Index.remove(folder / "photos.index", ["photos/cat/copy_1.jpg"])
    shutil.rmtree(folder / "photos/dog")
    with serving(folder / "photos.index", dups=folder / "dups", show_paths=True) as client:
        review = Review(client)
        assert len(review.groups()) == COPIES + 1
        gone = review.named("same.jpg")
        assert [one["item"]["has_image"] for one in gone["members"]] == [False, False]


def test_two_stores_cant_be_reviewed(folder):
    embedkit.extract("photos/cat", "other.h5", backbone="tiny", prefix="other")
    found = embedkit.find_duplicates("photos.h5", against="other.h5")
    embedkit.write_duplicates(found, "leaks", report=False)
    with pytest.raises(DedupError, match="two stores"):
        ReviewDesk(Path("leaks"), (), show_paths=False)
