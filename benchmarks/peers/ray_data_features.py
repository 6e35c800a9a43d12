"""Ray Data as in its documentation's guide to batch inference: read, preprocess, embed, write."""

import sys
import time

import numpy as np
import ray
import timm
import torch

images, output, name, cores = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
network = timm.create_model(name, pretrained=False, num_classes=0)
transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))


def preprocess(row):
    from PIL import Image

    return {"path": row["path"], "image": transform(Image.fromarray(row["image"])).numpy()}


class Embedder:
    def __init__(self):
        torch.set_num_threads(1)
        self.network = timm.create_model(name, pretrained=False, num_classes=0).eval()

    def __call__(self, batch):
        with torch.inference_mode():
            features = self.network(torch.from_numpy(np.stack(batch["image"])))
        return {"path": batch["path"], "feature": features.numpy().astype(np.float16)}


began = time.perf_counter()
ray.init(num_cpus=2 * cores, include_dashboard=False, log_to_driver=False)
dataset = ray.data.read_images(images, mode="RGB", include_paths=True)
dataset = dataset.map(preprocess)
dataset = dataset.map_batches(Embedder, batch_size=64, concurrency=cores)
dataset.write_parquet(output)
print("SECONDS", time.perf_counter() - began)
