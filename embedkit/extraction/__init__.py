"""From a source of images to a store of embeddings."""
