import csv
import json
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec

import pytest


def test_plot(embedkit, store, tmp_path):
    output = tmp_path / "map.html"
    ended = embedkit("plot", store, "-o", output, "--method", "pca")
    assert (ended.code, ended.out) == (0, f"{output}: 8 images by pca\n")
    assert output.read_text().count("data:image/jpeg") == 8
    assert embedkit("plot", store, "-o", output).code == 1
    told = embedkit(
        "plot", store, "-o", output, "--overwrite", "--method", "pca", "--color", "none", "--json"
    ).json
    assert (told["images"], told["color"], told["groups"]) == (8, "none", [])


def test_atlas(embedkit, store, tmp_path):
    for arguments in ((), ("--atlas", "-o", tmp_path / "map.html")):
        ended = embedkit("plot", store, *arguments)
        assert ended.code == 2
        assert "--output" in ended.err
    output = tmp_path / "atlas.parquet"
    assert embedkit("export", store, "-o", output, "--to", "atlas").code == 0
    assert output.exists()


@pytest.mark.skipif(find_spec("embedding_atlas") is None, reason="needs embedding-atlas")
def test_the_viewer_runs_until_it_is_interrupted(store):
    command = [sys.executable, "-m", "embedkit", "plot", store, "--atlas", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        url = json.loads(running.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/data/metadata.json") as answer:
            assert answer.status == 200
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


def test_outliers(embedkit, store, photos, tmp_path):
    ended = embedkit("outliers", store, "--min-deviations", "-99", "--top", 3)
    assert ended.code == 0
    assert ended.out.startswith("off-topic: 3 of 8 images\n")
    output, html = tmp_path / "out.csv", tmp_path / "out.html"
    arguments = ("outliers", store, "--min-deviations", "-99", "-o", output, "--html", html)
    assert embedkit(*arguments).out.count("8 off-topic, 0 doubtful labels, of 8 images") == 2
    with output.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert "data:image/jpeg" in html.read_text()
    assert embedkit(*arguments).code == 1
    told = embedkit("outliers", store, "--json").json
    assert (told["images"], told["labels"]) == (8, [])
