"""Decoding by torchvision on the GPU (nvJPEG): rate, pixels beside Pillow's, and cosines."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from support.timing import rate

from gpu_check.steps.fidelity import embed
from gpu_check.steps.rates import load

if TYPE_CHECKING:
    from gpu_check.context import Context

_LISTS = (16, 64, 256)  # images per call


def run(context: Context) -> None:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    data = [path.read_bytes() for path in context.photos]
    encoded = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in data]

    def decode(images: list[torch.Tensor]) -> list[torch.Tensor]:
        found = decode_jpeg(images, mode=ImageReadMode.RGB, device=context.device)
        if context.on_gpu:
            torch.cuda.synchronize()
        return found

    for size in _LISTS:
        lists = [[encoded[(at + k) % len(encoded)] for k in range(size)] for at in range(8)]
        for callers in (1, 2, 4):
            found = size * rate(decode, lists, callers, seconds=context.sizes.seconds / 2)
            context.report(
                f"{size} per call, {callers} callers: {found:,.0f} images/s",
                **{f"rate.{size}.{callers}": found},
            )
    backbone = load(context.sizes.trained)
    exact = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in data]
    other = [image.permute(1, 2, 0).cpu().numpy() for image in decode(encoded)]
    differences = np.concatenate(
        [np.abs(one.astype(np.int16) - two).ravel() for one, two in zip(exact, other, strict=True)]
    )
    shares = [float((differences > level).mean()) for level in (0, 1, 2, 8)]
    context.report(
        f"levels away from Pillow: {differences.mean():.3f} on average, {differences.max()} at "
        f"most; more than 0, 1, 2, 8 levels: {', '.join(f'{share:.2%}' for share in shares)}",
        mean=float(differences.mean()),
        most=int(differences.max()),
        shares=shares,
    )
    rows = []
    for images in (exact, other):
        crops = [np.asarray(backbone.preprocessing.apply(Image.fromarray(one))) for one in images]
        rows.append(embed(context, backbone, "fp32", np.stack(crops)))
    norms = np.linalg.norm(rows[0], axis=1) * np.linalg.norm(rows[1], axis=1)
    cosines = (rows[0] * rows[1]).sum(1) / norms
    context.report(
        f"{context.sizes.trained} fp32: cosine to Pillow's {cosines.min():.6f} at least, "
        f"{np.median(cosines):.6f} median",
        cosine_least=float(cosines.min()),
        cosine_median=float(np.median(cosines)),
    )
