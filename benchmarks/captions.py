"""Are photographs under a caption's band still found to be copies?

    python benchmarks/captions.py --images photos/

Each photograph is compared on its pixels with copies that have an even band of text over an edge.
Printed is the share that passes for a copy at the default threshold before a store says more, and
the share of another photograph under the same caption.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from support.machine import print_facts
from support.numbered import images_below
from support.tables import print_table

from embedkit.dedup.scoring.pixel_model import FIRST_PRIOR, pixel_odds
from embedkit.dedup.verification.geometric import compare
from embedkit.dedup.verification.image_to_compare import ImageToCompare

TEXT = "WHEN YOU SEE THE SAME PHOTO"


def captioned(image: Image.Image, share: float, color: str, ink: str, edges: str) -> Image.Image:
    """A copy with bands of a share of the height over ``edges``: top, bottom or both."""
    out, height = image.copy(), max(round(image.height * share), 1)
    pen = ImageDraw.Draw(out)
    font = ImageFont.load_default(max(height * 0.6, 6))
    for edge, top in (("top", 0), ("bottom", image.height - height)):
        if edges in {edge, "both"}:
            pen.rectangle((0, top, image.width, top + height), fill=color)
            pen.text((image.width / 2, top + height / 2), TEXT, ink, font, anchor="mm")
    return out


CAPTIONS = {
    "black, 8% of the height": (0.08, "black", "yellow", "bottom"),
    "black, 12%": (0.12, "black", "white", "bottom"),
    "white, 20%": (0.2, "white", "black", "top"),
    "red, 30%": (0.3, "firebrick", "white", "bottom"),
    "black, 15% above and below": (0.15, "black", "white", "both"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=80, help="photographs")
    args = parser.parse_args()
    print_facts()
    photos = [Image.open(one).convert("RGB") for one in images_below(args.images)[: args.count]]
    plain = [ImageToCompare.of(np.asarray(photo)) for photo in photos]
    rows = []
    for name, caption in CAPTIONS.items():
        edited = [
            ImageToCompare.of(np.asarray(captioned(photo, *caption))) for photo in photos
        ]  # fmt: skip
        shares = []
        for others in (edited, edited[1:] + edited[:1]):
            odds = pixel_odds([compare(*pair) for pair in zip(plain, others, strict=True)])
            shares.append(f"{(odds + FIRST_PRIOR > 0).mean():.1%}")
        rows.append((name, *shares))
    print_table(("band", "copies that pass", "others that pass"), rows)


if __name__ == "__main__":
    main()
