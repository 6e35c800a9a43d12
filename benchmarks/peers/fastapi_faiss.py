"""A search service as people write it: FastAPI, PyTorch and FAISS, one image per request.

    python benchmarks/peers/fastapi_faiss.py photos.h5 --port 8001

Takes the embeddings of a store, so that it searches the same images with the same backbone.
"""

from __future__ import annotations

import argparse
import io

import faiss
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from torchvision import transforms

import embedkit
from embedkit.extraction.store_settings import backbone_of

app = FastAPI()
state: dict[str, object] = {}


def load(path: str) -> None:
    with embedkit.EmbeddingStore.open(path) as store:
        backbone = backbone_of(store.meta, "auto")
        rows = store.to_numpy(np.float32)
        state["ids"] = list(store.ids)
    faiss.normalize_L2(rows)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    settings = backbone.preprocessing
    state["transform"] = transforms.Compose(
        [
            transforms.Resize(settings.resize),
            transforms.CenterCrop(settings.crop),
            transforms.ToTensor(),
            transforms.Normalize(settings.mean, settings.std),
        ]
    )
    state["model"], state["index"] = backbone.module.eval(), index


@app.get("/readyz")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/search")
def search(image: UploadFile = File(), k: int = 10) -> dict[str, object]:  # noqa: B008
    picture = Image.open(io.BytesIO(image.file.read())).convert("RGB")
    pixels = state["transform"](picture).unsqueeze(0)
    with torch.inference_mode():
        row = state["model"](pixels).numpy()
    faiss.normalize_L2(row)
    scores, found = state["index"].search(row, k)
    names = [state["ids"][place] for place in found[0]]
    return {
        "results": [{"id": i, "score": float(s)} for i, s in zip(names, scores[0], strict=True)]
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--port", type=int, default=8001)
    args = parser.parse_args()
    load(args.store)
    uvicorn.run(app, port=args.port, log_level="warning")
