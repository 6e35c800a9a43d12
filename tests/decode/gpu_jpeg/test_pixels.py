"""What the kernels make of planes, beside libjpeg-turbo, PyTorch and Pillow.

Without a GPU the kernels run in Triton's interpreter, in a process of their own, on small images.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from images import draw_photo, encode

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is there for Linux only"),
    pytest.mark.filterwarnings("ignore"),
]

INTERPRETED = """
import io, sys
import numpy as np, simplejpeg, torch
from PIL import Image
from embedkit.decode import fast
from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
from embedkit.decode.gpu_jpeg.pixels import ImageTable, scaled_images
from embedkit.decode.preprocessing import Preprocessing
from embedkit.decode.resize import scale_in_torch

def plane(data, half, channel):
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    # At half the size Pillow's libjpeg gives chroma as it is stored, and not upsampled.
    image.draft("YCbCr", (width // 2, height // 2) if half else (width, height))
    return np.asarray(image)[..., channel]

rng = np.random.default_rng(3)
cases = []
for name, steps, size, orientations in (
    ("444", (0, 0), (41, 34), (1, 7)), ("420", (1, 1), (45, 33), (1, 3, 6))
):
    noise = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
    data = simplejpeg.encode_jpeg(noise, 92, "RGB", name)
    cases += [(data, EncodedJpeg(0, len(data), *size, *steps, turn)) for turn in orientations]
preprocessing = Preprocessing(resize=24, crop=20, interpolation=sys.argv[1])
table = ImageTable.of([jpeg for _, jpeg in cases], 20)
planes = np.zeros(table.plane_bytes, np.uint8)
for (data, jpeg), offsets, pitches in zip(cases, *table.planes(), strict=True):
    for channel, (offset, pitch) in enumerate(zip(offsets, pitches, strict=True)):
        levels = plane(data, half=channel and jpeg.across, channel=channel)
        place = planes[offset:offset + levels.shape[0] * pitch].reshape(-1, pitch)
        place[:, :levels.shape[1]] = levels
found = scaled_images(torch.from_numpy(planes), table, preprocessing)
for number, (data, jpeg) in enumerate(cases):
    pixels = fast._upright(simplejpeg.decode_jpeg(data, "RGB"), jpeg.orientation)
    expected = fast.scale_and_crop(pixels, preprocessing, scale_in_torch)
    np.testing.assert_array_equal(found.pixels[number], expected)
    expected = fast.thumbnail(pixels, scale_in_torch)
    np.testing.assert_array_equal(found.thumbnails[number], expected)
print("same", len(cases))
"""


@pytest.mark.parametrize(
    "interpolation", ["bilinear", pytest.param("bicubic", marks=pytest.mark.long)]
)
def test_the_bits_of_the_processor(interpolation):
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, interpolation],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same", "5"]


def test_places_of_pixels_in_upright_images():
    from embedkit.decode.fast import _upright
    from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
    from embedkit.decode.gpu_jpeg.pixels import ImageTable

    width, height = 5, 4
    stored = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    for turn in range(1, 9):
        table = ImageTable.of([EncodedJpeg(0, 1, width, height, 0, 0, turn)], 4)
        origin, right, below = table.values[0, 7:10].tolist()
        memory = np.zeros(stored.size, np.uint8)
        for y in range(height):
            for x in range(width):
                at = origin + x * right + y * below
                memory[at : at + 3] = stored[y, x]
        columns, rows = table.values[0, 11:13].tolist()
        expected = _upright(stored, turn)
        np.testing.assert_array_equal(memory.reshape(rows, columns, 3), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_bits_of_the_processor_on_a_gpu(interpolation):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from embedkit.decode.gpu_jpeg.decoder import open_gpu_jpeg_decoder
    from embedkit.decode.gpu_jpeg.encoded import read_encoded
    from embedkit.decode.gpu_jpeg.nvjpeg import open_library
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.preprocessing import Preprocessing

    if open_library() is None:
        pytest.skip("needs nvJPEG")
    load = ImageLoader(DecodePolicy(), Preprocessing(interpolation=interpolation), "fast")
    decoder = open_gpu_jpeg_decoder("cuda", load)
    assert decoder is not None
    files = [encode(draw_photo(n, (300 + 37 * n, 260)), "JPEG", quality=80) for n in range(6)]
    files += [
        simplejpeg.encode_jpeg(np.array(draw_photo(9, (200, 300))), 95, "RGB", name)
        for name in ("444", "422", "420")
    ]
    memory = np.frombuffer(b"".join(files), np.uint8)
    jpegs, at = [], 0
    for data in files:
        jpegs.append(read_encoded(data, "x", load.policy)._replace(offset=at))
        at += len(data)
    pixels = np.empty((len(files), 224, 224, 3), np.uint8)
    small = decoder(jpegs, memory, pixels)
    for place, data in enumerate(files):
        expected = load(data, "x")
        np.testing.assert_array_equal(pixels[place], expected.pixels)
        np.testing.assert_array_equal(small[place], expected.thumbnail)
    decoder.close()
