"""Embeddings as a scikit-learn transformer: images in, features out, each image embedded once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from embedkit._version import __version__
from embedkit.backbones.registry import cache_folder
from embedkit.errors import MissingExtraError
from embedkit.extraction.feature_cache import cached_features
from embedkit.sources.naming import kind_of_name
from embedkit.utils.file_cache import CachedFiles, file_sha256

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as exc:
    raise MissingExtraError("scikit-learn", "sklearn", "embedkit.integrations.sklearn") from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EmbeddingTransformer"]


# scikit-learn has no types
class EmbeddingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns images into the pooled features of a backbone.

    Images are given by their paths, or as arrays ``(H, W, 3)`` or ``(H, W)`` of uint8. Fitting
    learns nothing of the images; it embeds them, so that a ``Pipeline`` under ``GridSearchCV``
    embeds each image once, whatever the folds and the processes: features are kept in stores by
    the SHA-256 of the images' bytes. An image that can't be embedded is an error.

    Args:
        backbone: A name, ``resnet50_swsl`` or ``timm:…``.
        weights: ``auto``, ``random`` or a file.
        seed: Of random weights.
        pooling: ``avg``, ``gem``, ``max`` or ``avg+max``.
        normalize: Whether features get unit L2 norm.
        cache: Folder of the stores; None takes one in embedkit's cache, for these settings and
            this version.
        engine: ``auto``, ``openvino``, ``torch`` or ``torch-compiled``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images a batch; None goes by the device.

    Attributes:
        feature_dim_: D, once it is fitted.
    """

    def __init__(
        self,
        backbone: str = "resnet50_swsl",
        *,
        weights: str | os.PathLike[str] = "auto",
        seed: int = 0,
        pooling: str = "avg",
        normalize: bool = False,
        cache: str | os.PathLike[str] | None = None,
        engine: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.seed = seed
        self.pooling = pooling
        self.normalize = normalize
        self.cache = cache
        self.engine = engine
        self.device = device
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> EmbeddingTransformer:  # noqa: N803  # sklearn's name
        """Embeds the images, to learn how many features there are.

        Args:
            X: n paths, also as a table of one column, or n arrays of uint8.
            y: Not used.

        Raises:
            DecodeError: An image can't be embedded.
            BackboneError: The backbone or its weights can't be had.
            ValueError: ``X`` is empty, or neither paths nor images.
        """
        del y
        self.feature_dim_ = int(self._embed(X).shape[1])
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Gives the images' features, ``(n, D)`` float32; the errors are those of ``fit``."""
        check_is_fitted(self)
        return self._embed(X)

    @property
    def _n_features_out(self) -> int:
        return self.feature_dim_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        tags.no_validation = True
        return tags

    def _embed(self, images: Any) -> NDArray[np.float32]:
        # Parameters may be numpy's, as of a grid made with np.arange.
        loading = {"weights": self.weights, "seed": int(self.seed), "pooling": self.pooling}
        batch_size = None if self.batch_size is None else int(self.batch_size)
        running = {"engine": self.engine, "device": self.device, "batch_size": batch_size}
        options = {
            "backbone": self.backbone,
            "normalize": bool(self.normalize),
            "dtype": "float32",
            "precision": "fp32",
            **loading,
            **running,
        }
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            files = [_as_file(image, Path(folder), n) for n, image in enumerate(_listed(images))]
            return cached_features(files, self._folder(loading), options)

    def _folder(self, loading: dict[str, Any]) -> Path:
        root = cache_folder() / "transformer" if self.cache is None else Path(self.cache)
        settings = {**loading, "backbone": self.backbone, "normalize": bool(self.normalize)}
        weights = Path(self.weights)
        if str(self.weights) not in {"auto", "random"} and weights.is_file():
            settings["weights"] = file_sha256(weights)
        settings["version"] = __version__
        return root / CachedFiles.of(root, settings).key


def _listed(images: Any) -> Any:
    """The images; of a table of one column, as ColumnTransformer gives it, its values."""
    shape = getattr(images, "shape", None)
    if isinstance(images, str | bytes) or not isinstance(images, Sized) or shape == ():
        raise ValueError("X must be a sequence of paths or of images, at least one")
    if shape is not None and len(shape) == 2 and getattr(images, "dtype", None) != np.uint8:
        if shape[1] != 1:
            raise ValueError(f"X must be one column of paths, not {shape[1]}")
        images = np.asarray(images, object)[:, 0]
    if not len(images):
        raise ValueError("X must be a sequence of paths or of images, at least one")
    return images


def _as_file(image: str | os.PathLike[str] | NDArray[np.uint8], folder: Path, number: int) -> Path:
    """The file of an image; of an array, a PNG that is made."""
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if path.is_dir() or kind_of_name(path.name) not in {None, "image"}:
            raise ValueError(
                f"image {number} is {str(path)!r}, which holds several images: give the path of "
                "each image, or embed it with embedkit.extract"
            )
        return path
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image {number} is {image!r:.80}: it must be a path or an array of uint8")
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise ValueError(
            f"image {number} is {image.shape} {image.dtype}: it must be (H, W) or (H, W, 3) uint8"
        )
    path = folder / f"{number}.png"
    Image.fromarray(image).save(path, compress_level=1)
    return path
