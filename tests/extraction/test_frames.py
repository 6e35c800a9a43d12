"""The number of frames and pages reaches the store, in threads and in processes."""

from __future__ import annotations

import os

import pytest
from images import draw_photo, encode

from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore, verify
from embedkit.store.merge import merge


@pytest.mark.parametrize("processes", [False, True])
def test_frames_are_stored(processes: bool, tmp_path) -> None:
    if processes and not hasattr(os, "memfd_create"):
        pytest.skip("Linux only")
    photos = [draw_photo(seed, (60, 40)) for seed in range(4)]
    folder = tmp_path / "photos"
    folder.mkdir()
    for kind, ending in {"TIFF": "tif", "GIF": "gif", "WEBP": "webp", "PNG": "png"}.items():
        for count in (1, 4):
            data = encode(photos[0], kind, save_all=True, append_images=photos[1:count])
            (folder / f"{count}.{ending}").write_bytes(data)
    (folder / "1.jpg").write_bytes(encode(photos[0], "JPEG"))
    output = tmp_path / "a.h5"
    extract(folder, output, backbone="tiny", engine="torch", device="cpu", processes=processes)
    merge([output], tmp_path / "merged.h5")
    assert verify(tmp_path / "merged.h5") == []
    for path in (output, tmp_path / "merged.h5"):
        with EmbeddingStore.open(path) as store:
            frames = dict(zip(store.ids, store.images("frames").tolist(), strict=True))
        assert frames == {name: int(os.path.basename(name)[0]) for name in frames}
        assert len(frames) == 9
