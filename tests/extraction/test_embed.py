"""``embedkit.embed``: images at hand get the embeddings that ``extract`` gives their files."""

import io

import numpy as np
import pytest
from images import draw_photo, encode, write_photos
from PIL import Image

import embedkit
from embedkit.errors import DecodeError


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 9)


@pytest.fixture(scope="module")
def backbone():
    return embedkit.load_backbone("tiny")


@pytest.fixture(scope="module", params=["fast", "exact"])
def extracted(request, photos, tmp_path_factory, backbone):
    store = tmp_path_factory.mktemp("store") / "photos.h5"
    options = {"dtype": "float32", "decoder": request.param}
    embedkit.extract(photos[0].parent, store, backbone=backbone, **options)
    with embedkit.EmbeddingStore(store) as opened:
        return request.param, opened.to_numpy()


def test_paths_and_bytes_as_extract_embeds_them(photos, backbone, extracted):
    decoder, expected = extracted
    mixed = [str(p) if n % 3 else p.read_bytes() if n % 2 else p for n, p in enumerate(photos)]
    found = embedkit.embed(iter(mixed), backbone, decoder=decoder)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_pixels_as_the_exact_decoder_gives_them(photos, backbone, extracted):
    decoder, expected = extracted
    if decoder == "fast":
        pytest.skip("pixels are Pillow's")
    opened = [Image.open(path) for path in photos]
    np.testing.assert_array_equal(embedkit.embed(opened, backbone), expected)
    arrays = [np.asarray(image) for image in opened]
    np.testing.assert_array_equal(embedkit.embed(arrays, backbone), expected)
    np.testing.assert_array_equal(embedkit.embed(np.stack(arrays), backbone), expected)
    turned = [np.asarray(image)[:, ::-1][:, ::-1] for image in opened]  # not contiguous
    np.testing.assert_array_equal(embedkit.embed(turned, backbone), expected)


def test_one_image_needs_no_list(photos, backbone):
    image = Image.open(photos[0])
    for one in (image, np.asarray(image)):
        assert embedkit.embed(one, backbone).shape == (1, backbone.feature_dim)
    for one in (photos[0], str(photos[0]), photos[0].read_bytes()):
        np.testing.assert_array_equal(
            embedkit.embed(one, backbone), embedkit.embed([photos[0]], backbone)
        )
    assert embedkit.embed([], backbone).shape == (0, backbone.feature_dim)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_pil_images_of_any_mode_as_their_files(mode, backbone):
    image = draw_photo(5)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    if mode in {"LA", "RGBA"}:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    file = encode(image, "TIFF")
    before = image.copy()
    found = embedkit.embed([image, file], backbone, decoder="exact")
    np.testing.assert_array_equal(found[0], found[1])
    assert image.mode == before.mode
    assert image.tobytes() == before.tobytes()


def test_exif_turns_a_pil_image(backbone):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encode(draw_photo(6), "JPEG", exif=exif)
    image = Image.open(io.BytesIO(file))
    found = embedkit.embed([image, file], backbone, decoder="exact")
    np.testing.assert_array_equal(found[0], found[1])


def test_normalize(photos, backbone):
    found = embedkit.embed(photos[:2], backbone, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((4, 5, 3)), r"image 0 is an array of \(4, 5, 3\) float64"),
        (np.zeros((4, 5), np.uint8), r"image 0 is an array of \(4, 5\) uint8"),
        (np.zeros((4, 5, 4), np.uint8), "must be .H, W, 3. uint8"),
        ([np.zeros((0, 5, 3), np.uint8)], "image 0 is an array"),
        (np.zeros((2, 4, 5, 3)), "image 0 is an array"),
        (3, "not int"),
        (None, "not NoneType"),
        ([b"x", 3], "image 1 is int"),
    ],
)
def test_what_is_no_image_is_refused(images, said, backbone):
    with pytest.raises(ValueError, match=said):
        embedkit.embed(images, backbone)


def test_an_image_that_cannot_be_embedded_is_named(photos, tmp_path, backbone):
    (tmp_path / "notes.txt").write_text("no image")
    for bad, said in [
        (b"no image", "image 1: not an image"),
        (tmp_path / "no.jpg", "no.jpg: no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "notes.txt", "notes.txt: not an image"),
    ]:
        with pytest.raises(DecodeError, match=said):
            embedkit.embed([photos[0], bad, photos[1]], backbone)


def test_a_generator_is_read_as_it_is_embedded(photos, backbone):
    """Memory is bounded: not much more than what the threads embed is taken from it."""
    taken = 0

    def images():
        nonlocal taken
        for _ in range(500):
            taken += 1
            yield photos[0]
        raise KeyboardInterrupt

    with pytest.raises(DecodeError):
        embedkit.embed(chain_bad(images()), backbone, workers=1, batch_size=2)
    assert taken < 20


def chain_bad(images):
    yield b"no image"
    yield from images
