"""Which pairs of images are compared closely."""
