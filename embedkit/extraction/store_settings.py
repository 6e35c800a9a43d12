"""Settings as a store has them: its backbone, and the settings to extend it by."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedkit.backbones import load_configured
from embedkit.backbones.config import LoadConfig
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import StoreFormatError, StoreMismatchError
from embedkit.extraction.config import ExtractConfig
from embedkit.extraction.source_images import policy_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from embedkit.backbones import Backbone
    from embedkit.store import StoreMeta

__all__ = ["WAY_OUT", "backbone_of", "config_of"]

_LISTING = ("labels", "image_column", "image_root", "label_column", "label_id_column", "prefix")
_LOADING = ("seed", "pooling", "gem_p", "layers", "flip")
_CHECKED_OTHERWISE = {"list_folders", "null", "weights", "input_size", "preprocessing"}
WAY_OUT = (
    "an update keeps the store's settings, so leave these out; overwrite=True embeds everything "
    "anew by others"
)


def backbone_of(meta: StoreMeta, weights: str | os.PathLike[str] = "auto") -> Backbone:
    """Loads the backbone of a store, with its weights, preprocessing and pooling.

    Args:
        meta: The store's metadata.
        weights: ``auto``, or the file that the store was embedded with.

    Raises:
        BackboneError: The backbone or its weights aren't available.
        StoreFormatError: The store has a setting that this version doesn't know.
        StoreMismatchError: The weights differ from those of the store.
    """
    backbone = load_configured(meta.backbone, _loading_of(meta, weights))
    if backbone.fingerprint != meta.weights_fingerprint:
        differences = {
            "weights": (meta.weights, backbone.weights),
            "weights_fingerprint": (meta.weights_fingerprint, backbone.fingerprint),
        }
        raise StoreMismatchError(
            str(meta.backbone), differences, way_out="pass the store's weights by weights=FILE"
        )
    return backbone


def config_of(
    path: str, meta: StoreMeta, columns: Collection[str], given: Mapping[str, Any]
) -> ExtractConfig:
    """The settings by which images are added to a store.

    Args:
        path: The store.
        meta: Its metadata.
        columns: The columns of ``/images`` that some of its rows have.
        given: Keywords of ``extract`` that the caller asks for; all others are the store's.

    Raises:
        StoreMismatchError: One that is given contradicts the store.
        StoreFormatError: The store has a setting that this version doesn't know.
    """
    loading, engine = _loading_of(meta, given.get("weights", "auto")), meta.engine
    stored = {
        "backbone": meta.backbone,
        "seed": loading.seed,
        "pooling": loading.pooling,
        "gem_p": loading.gem_p,
        "layers": loading.layers,
        "flip": loading.flip,
        "engine": engine["name"],
        "device": str(engine["device"]).split(":")[0],
        "precision": engine["precision"],
        "batch_size": engine["batch_size"],
        "dtype": meta.dtype,
        "normalize": meta.normalized,
        "decoder": meta.decode["decoder"],
        "policy": policy_of(meta),
        "thumbnails": _has_thumbnails(meta, columns, given),
        **_listing_of(meta, given),
    }
    _refuse_other(path, meta, stored, given)
    own = {name: value for name, value in stored.items() if name not in _LOADING}
    chosen = {name: given[name] for name in ("list_folders", "null", "device") if name in given}
    if "device" not in given and stored["device"] == "cuda":
        chosen["device"] = "auto"  # all GPUs
    if not isinstance(given.get("backbone", ""), str):
        chosen["backbone"], loading = given["backbone"], LoadConfig()
    return ExtractConfig(loading=loading, **{**own, **chosen})


def _has_thumbnails(meta: StoreMeta, columns: Collection[str], given: Mapping[str, Any]) -> bool:
    """Whether new rows get thumbnails: a store that has none yet leaves it to what is given."""
    if "thumbnail" in columns:
        return True
    return "thumbnail" not in meta.omitted_columns and bool(given.get("thumbnails", True))


def _listing_of(meta: StoreMeta, given: Mapping[str, Any]) -> dict[str, Any]:
    """How the source is listed: as before, or, in a store that doesn't say, as is given."""
    if meta.labels_from:  # the labels that were put in later stay
        return {**meta.listing, "labels": "none"}
    if meta.listing:
        return dict(meta.listing)
    return {name: given[name] for name in _LISTING if name in given}


def _refuse_other(
    path: str, meta: StoreMeta, stored: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    default = ExtractConfig()
    differences = {}
    for name in given.keys() - _CHECKED_OTHERWISE:
        before, value = stored.get(name, getattr(default, name, None)), _as_stored(name, given)
        if value != before:
            differences[name] = (before, value)
    if given.get("weights") == "random" and not meta.weights.startswith("random:"):
        differences["weights"] = (meta.weights, "random")
    if differences := dict(sorted(differences.items())) | _other_preprocessing(meta, given):
        raise StoreMismatchError(path, differences, way_out=WAY_OUT)


def _as_stored(name: str, given: Mapping[str, Any]) -> Any:
    """A setting as the store would hold it."""
    value = given[name]
    if name == "backbone" and not isinstance(value, str):
        return value.spec.name
    if name == "device":
        return value.split(",")[0].split(":")[0]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _other_preprocessing(
    meta: StoreMeta, given: Mapping[str, Any]
) -> dict[str, tuple[object, object]]:
    """What differs from the store's preprocessing, where some is given."""
    names = [name for name in ("input_size", "preprocessing") if given.get(name)]
    if not names:
        return {}
    loading = replace(_loading_of(meta, given.get("weights", "auto")), preprocessing=None)
    loading = replace(loading, **{name: given[name] for name in names})
    config = load_configured(meta.backbone, loading).preprocessing.to_config()
    return {
        f"preprocessing.{name}": (meta.preprocessing.get(name), value)
        for name, value in config.items()
        if meta.preprocessing.get(name) != value
    }


def _loading_of(meta: StoreMeta, weights: str | os.PathLike[str]) -> LoadConfig:
    """How the backbone of a store is loaded.

    Raises:
        StoreFormatError: The store has a setting that this version doesn't know.
    """
    kind, _, seed = meta.weights.partition(":")
    try:
        preprocessing = Preprocessing.from_config(meta.preprocessing)
        config = LoadConfig(weights=weights, preprocessing=preprocessing, **_pooling_settings(meta))
    except (TypeError, ValueError, KeyError) as exc:
        raise StoreFormatError(
            f"the images were embedded with settings that this embedkit doesn't know ({exc})"
        ) from exc
    if weights in {"auto", "random"} and kind == "random":
        config = replace(config, weights="random", seed=int(seed))
    return config


def _pooling_settings(meta: StoreMeta) -> dict[str, Any]:
    """The fields of `LoadConfig` that say how features are pooled.

    Raises:
        KeyError: A setting is missing, or isn't known.
    """
    pooling = dict(meta.pooling)
    settings = {name: pooling.pop(name) for name in ("pooling", "gem_p", "layers", "flip")}
    if pooling:
        raise KeyError(*pooling)
    given = {name: value for name, value in settings.items() if value is not None}
    return {name: tuple(value) if name == "layers" else value for name, value in given.items()}
