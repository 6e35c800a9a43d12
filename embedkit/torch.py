"""``embedkit.torch``: see `embedkit.integrations.torch_dataset`."""

from embedkit.integrations.torch_dataset import StoreDataset

__all__ = ["StoreDataset"]
