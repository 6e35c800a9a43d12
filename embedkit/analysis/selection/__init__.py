"""Selects stored images: the best per class, or a subset by similarity; in bounded memory."""
