"""``embedkit cluster``."""

import csv


def test_table_json_and_page(embedkit, store, photos, tmp_path):
    output, html = tmp_path / "out.csv", tmp_path / "out.html"
    ended = embedkit("cluster", store, "-k", 3, "-o", output, "--html", html, "--images", photos)
    assert ended.code == 0
    assert ended.out.startswith("3 clusters of 8 images\ncluster  images")
    assert f"{output}: written" in ended.out
    with output.open(newline="") as file:
        assert {line["cluster"] for line in csv.DictReader(file)} == {"0", "1", "2"}
    assert "data:image/" in html.read_text()
    told = embedkit("cluster", store, "-k", "3", "--json").json
    assert sum(one["images"] for one in told["clusters"]) == told["images"] == 8
    assert embedkit("cluster", store, "-k", "auto", "--filter", "width>1").code == 0


def test_clusters_are_written_into_the_store(embedkit, store):
    ended = embedkit("cluster", store, "-k", 3, "--write")
    assert "columns cluster and cluster_distance written" in ended.out
    sizes = [
        embedkit("cluster", store, "-k", 1, "--filter", f"cluster={number}", "--json").json[
            "images"
        ]
        for number in range(3)
    ]
    assert (sum(sizes), sizes) == (8, sorted(sizes, reverse=True))
    again = embedkit("cluster", store, "-k", 3, "--write")
    assert (again.code, "--overwrite" in again.err) == (1, True)
    assert embedkit("cluster", store, "-k", 2, "--write", "--overwrite").code == 0


def test_usage(embedkit, store, tmp_path):
    for k in ("0", "-1", "few", "1.5"):
        assert embedkit("cluster", store, "-k", k).code == 2
    assert embedkit("cluster", store, "-k", 2, "-o", tmp_path / "a.xlsx").code == 1
    (tmp_path / "a.csv").write_text("")
    ended = embedkit("cluster", store, "-k", 2, "-o", tmp_path / "a.csv")
    assert (ended.code, "--overwrite" in ended.err) == (1, True)
    assert embedkit("cluster", store, "--filter", "width>=999999").code == 1
