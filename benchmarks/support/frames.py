"""Two frames of one scene in which something moves, cut and pasted from photographs."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = Image.Image
SIZES, MOVES = (0.2, 0.5), (0.15, 1.0)  # of a thing: of the shorter side; of its own size
KINDS = ("moved", "another", "gone")
SHARES = (0.6, 0.25, 0.15)


def two_frames(scene: Picture, one: Picture, other: Picture, seed: int) -> tuple[Picture, Picture]:
    """A thing out of one photograph that moves before a scene, gives way to another, or leaves.

    The camera hardly moves between the two, and each has its own noise and compression.
    """
    rng = np.random.default_rng(seed)
    share = rng.uniform(*SIZES)
    place = rng.uniform(0, 1, 2) * (1 - share)
    step = rng.uniform(*MOVES) * share * np.array([np.cos(a := rng.uniform(0, 6.3)), np.sin(a)])
    things = [cut(picture, share * min(scene.size), rng) for picture in (one, other)]
    kind = rng.choice(KINDS, p=SHARES)
    before = pasted(scene, things[0], place)
    after = shaken(scene, rng)
    if kind == "another":
        after = pasted(after, things[1], place)
    elif kind == "moved":
        turned = things[0].rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC)
        after = pasted(after, turned, place + step)
    return filmed(before, rng), filmed(after, rng)


def cut(picture: Picture, size: float, rng: np.random.Generator) -> Picture:
    """A round part of a photograph with an uneven edge, about ``size`` pixels large."""
    side = max(round(size), 8)
    part = picture.resize((2 * side, 2 * side))
    corner = rng.integers(0, side + 1, 2).tolist()
    part = part.crop((*corner, corner[0] + side, corner[1] + side)).convert("RGBA")
    angle, radius = blob(side)
    waves = sum(rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (1, 2, 3, 5))
    inside = Image.fromarray(np.where(radius < 0.4 + 0.3 * waves, 255, 0).astype(np.uint8))
    part.putalpha(inside.filter(ImageFilter.GaussianBlur(1)))
    return part


def blob(side: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Angle and distance from the middle, as shares of the side, of each pixel of a square."""
    down, across = np.mgrid[:side, :side] / side - 0.5
    return np.arctan2(down, across), np.hypot(down, across)


def pasted(scene: Picture, thing: Picture, place: NDArray[np.floating]) -> Picture:
    """A scene with a thing, whose upper left corner is at a place of it, 0 to 1."""
    out = scene.convert("RGBA")
    at = (place * scene.size).astype(int).tolist()
    layer = Image.new("RGBA", scene.size)
    layer.paste(thing, tuple(at))
    return Image.alpha_composite(out, layer).convert("RGB")


def shaken(scene: Picture, rng: np.random.Generator) -> Picture:
    """The scene a moment later: up to two pixels off, a little lighter or darker."""
    across, down = rng.uniform(-2, 2, 2)
    moved = scene.transform(
        scene.size, Image.Transform.AFFINE, (1, 0, across, 0, 1, down), Image.Resampling.BICUBIC
    )
    levels = np.asarray(moved) * rng.uniform(0.96, 1.04)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def filmed(frame: Picture, rng: np.random.Generator) -> Picture:
    """A frame with a sensor's noise, saved as JPEG."""
    noise = rng.normal(0, rng.uniform(0.5, 4), (frame.height, frame.width, 3))
    pixels = Image.fromarray((np.asarray(frame) + noise).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    pixels.save(file, "JPEG", quality=int(rng.integers(70, 93)))
    return Image.open(file).convert("RGB")


def two_frames_of_a_shape(scene: Picture, share: float, seed: int) -> tuple[Picture, Picture]:
    """An even shape, ``share`` of the shorter side large, at two places that don't overlap."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1 - share, (64, 2, 2))
    apart = np.abs(places[:, 0] - places[:, 1]).max(1) > share
    first, second = places[np.argmax(apart)]
    color = tuple(rng.integers(0, 256, 3).tolist())
    frames = []
    for place in (first, second):
        frame, size = scene.copy(), share * min(scene.size)
        x, y = place * scene.size
        draw = ImageDraw.Draw(frame)
        shape = draw.ellipse if seed % 2 else draw.rectangle
        shape((x, y, x + size, y + size), fill=color)
        frames.append(filmed(frame, rng))
    return frames[0], frames[1]
