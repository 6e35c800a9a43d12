"""Images measured on Ray: the values of one process; images that changed or are gone."""

import numpy as np
import pytest
from images import draw_photo, encode
from ray_nodes import marks

import embedkit
from embedkit.analysis.quality import find_quality_issues, ray_measures
from embedkit.analysis.quality.measures import MEASURES, measure_images
from embedkit.distributed.cluster import RayCluster
from embedkit.errors import WorkerError
from embedkit.store import EmbeddingStore

pytest.importorskip("ray")

pytestmark = marks()
COUNT = 20


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(COUNT):
        (folder / f"{seed:02d}.jpg").write_bytes(encode(draw_photo(seed, (96, 80)), "JPEG"))
    return folder


@pytest.fixture
def store(photos, tmp_path):
    embedkit.extract(photos, tmp_path / "a.h5", backbone="tiny")
    return tmp_path / "a.h5"


def test_the_measures_of_one_process(store, photos, cluster, monkeypatch):
    (photos / "03.jpg").write_bytes((photos / "04.jpg").read_bytes())  # changed
    (photos / "05.jpg").unlink()
    monkeypatch.setattr(ray_measures, "_TASK", 3)
    with EmbeddingStore.open(store) as opened:
        alone = measure_images(opened, [photos])
        spread = measure_images(opened, [photos], RayCluster(cluster, 2))
    assert sorted(spread) == sorted(MEASURES)
    for name, values in alone.items():
        np.testing.assert_array_equal(values, spread[name], err_msg=name)
    assert np.isnan(spread["luminance"]).sum() == 2


def test_without_a_cluster(store):
    with pytest.raises(ValueError, match="workers goes with ray only"):
        find_quality_issues(store, workers=2)
    with EmbeddingStore.open(store) as opened, pytest.raises(WorkerError, match="no Ray cluster"):
        measure_images(opened, (), RayCluster("127.0.0.1:1"))
