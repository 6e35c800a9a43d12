"""The photographs of the demo: where they come from, and what is made of them."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from embedkit.decode.exact import decode_image
from embedkit.errors import DecodeError, MissingExtraError, SourceError
from embedkit.sources.image_suffixes import has_image_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["EDITS", "DemoImages", "gather_images"]

MAX_IMAGES = 2000
_EDITED = 6  # photographs that copies are made of

# Photographs that lie as files in these packages; what a release leaves out is passed over.
_PACKAGED = {
    "skimage": (
        "data",
        "astronaut.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png "
        "hubble_deep_field.jpg moon.png motorcycle_left.png motorcycle_right.png page.png "
        "retina.jpg rocket.jpg",
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}
_PIP_NAMES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
# The demo makes copies of these first: they show most.
_FAVOURITES = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")


@dataclass(frozen=True, slots=True)
class DemoImages:
    """The images that the demo works on.

    Attributes:
        folder: Where they lie.
        photos: The originals' copies in ``folder``.
        copies: Edited copy to (the original, the edit's name).
        damaged: The file that was damaged on purpose, if any.
        left_out: Images of the user's folder above ``MAX_IMAGES``.
    """

    folder: Path
    photos: tuple[Path, ...]
    copies: Mapping[Path, tuple[Path, str]]
    damaged: Path | None
    left_out: int

    def digest(self) -> str:
        """SHA-256 (hex) over all names and contents."""
        digest = hashlib.sha256()
        extra = [self.damaged] if self.damaged else []
        for path in [*self.photos, *self.copies, *extra]:
            name = str(path.relative_to(self.folder)).encode("utf-8", "surrogateescape")
            digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def gather_images(folder: Path, images: Path | None) -> DemoImages:
    """Fills a new folder with photographs and edited copies of a few.

    Args:
        folder: Must not exist.
        images: The user's folder, of which nothing is changed; None takes the photographs that
            scikit-image and scikit-learn bring.

    Raises:
        MissingExtraError: One of the two packages isn't installed.
        SourceError: There is no image in ``images``, or it can't be read.
    """
    found = _packaged_photos() if images is None else _photos_of(images, folder.parent)
    try:
        photos = tuple(_copy(path, folder / name) for name, path in found[:MAX_IMAGES])
    except OSError as exc:
        raise SourceError(f"{exc.filename}: can't be copied: {exc.strerror or exc}") from exc
    copies = dict(_edited_copies(folder, photos))
    damaged = _damage(photos[0], folder / "damaged-on-purpose.jpg") if images is None else None
    return DemoImages(folder, photos, copies, damaged, max(len(found) - MAX_IMAGES, 0))


def _packaged_photos() -> list[tuple[str, Path]]:
    """The packages are looked up, not imported: that would take seconds."""
    found = []
    for package, (folder, names) in _PACKAGED.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtraError(_PIP_NAMES[package], "demo", "the demo's photographs")
        root = Path(spec.submodule_search_locations[0]) / folder
        found += [(name, root / name) for name in names.split() if (root / name).is_file()]
    return sorted(found)


def _photos_of(images: Path, output: Path) -> list[tuple[str, Path]]:
    """The images of a folder and those below it, but not those of the demo itself."""
    if not images.is_dir():
        raise SourceError(f"{images}: is no folder")
    own = output.resolve()
    found = [
        (str(path.relative_to(images)), path)
        for path in sorted(images.rglob("*"))
        if has_image_name(path.name) and path.is_file() and own not in path.resolve().parents
    ]
    if not found:
        raise SourceError(f"{images}: holds no image")
    return found


def _copy(path: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return target


def _edited_copies(
    folder: Path, photos: tuple[Path, ...]
) -> Iterator[tuple[Path, tuple[Path, str]]]:
    for photo in _to_edit(photos):
        try:
            image = decode_image(photo.read_bytes(), photo.name).image
        except DecodeError:
            continue  # the run will tell of it
        for name, edit in EDITS.items():
            target = folder / "edited" / f"{photo.stem}, {name}.jpg"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(edit(image))
            yield target, (photo, name)


def _to_edit(photos: tuple[Path, ...]) -> list[Path]:
    """The favourites, or as many from all over the list."""
    favourites = [photo for photo in photos if photo.stem in _FAVOURITES]
    if len(favourites) == len(_FAVOURITES):
        return favourites
    return list(photos[:: max(len(photos) // _EDITED, 1)][:_EDITED])


def _damage(photo: Path, target: Path) -> Path:
    """A JPEG file that ends in its middle."""
    data = _jpeg(Image.open(photo).convert("RGB"))
    target.write_bytes(data[: len(data) // 2])
    return target


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _half_size(image: Image.Image) -> bytes:
    return _jpeg(image.resize((max(image.width // 2, 1), max(image.height // 2, 1))))


def _crop(image: Image.Image) -> bytes:
    """Leaves 90 % of the width and of the height, from the middle."""
    left, top = image.width // 20, image.height // 20
    return _jpeg(image.crop((left, top, image.width - left, image.height - top)))


def _caption(image: Image.Image) -> bytes:
    """Adds a strip with a line of text below the image."""
    height = max(image.height // 8, 12)
    page = ImageOps.expand(image, (0, 0, 0, height), "white")
    font = ImageFont.load_default(max(min(height * 0.6, page.width / 15), 1))
    spot = (page.width / 2, image.height + height / 2)
    ImageDraw.Draw(page).text(spot, "A photograph, with a caption", "black", font, anchor="mm")
    return _jpeg(page)


EDITS: Mapping[str, Callable[[Image.Image], bytes]] = {
    "JPEG quality 30": lambda image: _jpeg(image, quality=30),
    "half size": _half_size,
    "10% cropped": _crop,
    "mirrored": lambda image: _jpeg(ImageOps.mirror(image)),
    "brighter": lambda image: _jpeg(ImageEnhance.Brightness(image).enhance(1.4)),
    "captioned": _caption,
}
"""What is done to a photograph to make a copy of it; each gives a JPEG file."""
