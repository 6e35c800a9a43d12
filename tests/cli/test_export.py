import numpy as np
import pandas

from embedkit.store import EmbeddingStore


def test_parquet(embedkit, store, tmp_path):
    output = tmp_path / "photos.parquet"
    assert embedkit("export", store, "--to", "parquet", "-o", output).code == 0
    frame = pandas.read_parquet(output)
    with EmbeddingStore.open(store) as opened:
        assert frame["id"].tolist() == list(opened.ids)
        np.testing.assert_array_equal(np.stack(frame["embedding"]), opened.to_numpy(np.float32))


def test_npy(embedkit, store, tmp_path):
    output = tmp_path / "npy"
    assert embedkit("export", store, "--to", "npy", "-o", output).code == 0
    assert np.load(output / "img_emb" / "img_emb_0.npy").shape == (8, 16)
    assert len(pandas.read_parquet(output / "metadata" / "metadata_0.parquet")) == 8


def test_existing_output_is_kept(embedkit, store, tmp_path):
    output = tmp_path / "photos.parquet"
    output.write_text("mine")
    assert embedkit("export", store, "--to", "parquet", "-o", output).code == 1
    assert output.read_text() == "mine"
    assert embedkit("export", store, "--to", "parquet", "-o", output, "--overwrite").code == 0


def test_h5(embedkit, store, tmp_path):
    output = tmp_path / "copy.h5"
    assert embedkit("export", store, "--to", "h5", "-o", output).code == 0
    assert output.read_bytes() == store.read_bytes()


def test_torch_needs_no_export(embedkit, store, tmp_path):
    done = embedkit("export", store, "--to", "torch", "-o", tmp_path / "out")
    assert done.code == 2
    assert "StoreDataset reads the store itself" in done.err
    assert not (tmp_path / "out").exists()
    done = embedkit("export", store, "--to", "csv", "-o", tmp_path / "out")
    assert done.code == 2
    assert "'csv' is not one of npy, parquet, h5, lancedb" in done.err
