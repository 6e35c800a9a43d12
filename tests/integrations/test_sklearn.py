"""The transformer: scikit-learn's own checks, the same features as a store's, each image once."""

import pickle

import numpy as np
import pandas
import pytest
from images import draw_photo, write_photos
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

import embedkit
from embedkit.errors import DecodeError, SourceError
from embedkit.integrations.sklearn import EmbeddingTransformer

# All others fit on a table of numbers, which isn't an image; a pass of one of them fails the run.
APPLICABLE = {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_n_features_in_after_fitting",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_transformer_n_iter",
    "check_transformers_unfitted",
    "check_valid_tag_types",
}


class Claiming(EmbeddingTransformer):
    """Says that it takes tables: scikit-learn leaves out every check of what says it doesn't."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def exceptions(estimator):
    checks = (check for _, check in estimator_checks_generator(estimator))
    names = {getattr(check, "func", check).__name__ for check in checks}
    assert names >= APPLICABLE - {"check_estimator_sparse_tag"}  # scikit-learn 1.6.0 has none
    return dict.fromkeys(names - APPLICABLE, "fits on a table of numbers")


@parametrize_with_checks([Claiming("tiny")], expected_failed_checks=exceptions)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 6)


@pytest.fixture
def transformer(tmp_path):
    return EmbeddingTransformer("tiny", cache=tmp_path / "cache")


def test_features_are_those_of_a_store(photos, transformer, tmp_path):
    found = transformer.fit_transform([*photos, photos[0]])
    embedkit.extract(photos[0].parent, tmp_path / "a.h5", backbone="tiny", dtype="float32")
    with embedkit.EmbeddingStore.open(tmp_path / "a.h5") as store:
        wanted = np.stack([store.get(str(path)) for path in [*photos, photos[0]]])
    assert found.dtype == np.float32
    assert (found == wanted).all()
    names = transformer.get_feature_names_out()
    assert names[1] == "embeddingtransformer1"
    assert len(names) == found.shape[1] == transformer.feature_dim_


def test_arrays_give_what_their_files_give(transformer, tmp_path):
    image = draw_photo(3)
    image.save(tmp_path / "a.png")
    gray = np.asarray(image.convert("L"))
    Image.fromarray(gray).save(tmp_path / "b.png")
    of_files = transformer.fit_transform([str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    of_arrays = transformer.fit_transform([np.asarray(image), gray])
    assert of_arrays == pytest.approx(of_files, abs=1e-6)
    stacked = transformer.transform(np.stack([np.asarray(image)] * 2))
    assert (stacked == of_arrays[0]).all()


def test_each_image_is_embedded_once(photos, transformer, monkeypatch):
    transformer.fit(photos[:4])
    called = []
    real = embedkit.extraction.feature_cache.extract

    def counting(source, *args, **options):
        called.append(source.read_text().split("\0")[:-1])
        return real(source, *args, **options)

    monkeypatch.setattr("embedkit.extraction.feature_cache.extract", counting)
    again = clone(transformer).fit(photos[:3]).transform(photos[2:])
    assert again.shape[0] == 4
    assert called == [[str(path) for path in photos[4:]]]


def test_pipeline_under_a_grid_search(photos, transformer):
    labels = ["a", "b"] * 3
    pipeline = make_pipeline(transformer, LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1, 10]}, cv=2)
    search.fit([str(path) for path in photos], labels)
    loaded = pickle.loads(pickle.dumps(search.best_estimator_))
    assert (loaded.predict(photos) == search.predict(photos)).all()


def test_other_settings_have_a_cache_of_their_own(photos, transformer):
    plain = transformer.fit_transform(photos[:2])
    unit = clone(transformer).set_params(normalize=True).fit_transform(photos[:2])
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(plain, axis=1) != pytest.approx(1, abs=1e-5)
    other = clone(transformer).set_params(weights="random", seed=1).fit_transform(photos[:2])
    assert np.abs(other - plain).max() > 1e-3


def test_what_cant_be_embedded_is_told(photos, transformer, tmp_path):
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(NotFittedError):
        transformer.transform(photos)
    with pytest.raises(DecodeError, match=r"damaged\.jpg"):
        transformer.fit([photos[0], damaged])
    for name in ("a.tar", "a.zip", "a.parquet", "list.txt", ""):
        with pytest.raises(ValueError, match=r"image 1 is .*, which holds several images"):
            transformer.fit([photos[0], tmp_path / name])
    with pytest.raises(SourceError, match="nowhere"):
        transformer.fit([tmp_path / "nowhere.jpg"])
    for wrong in ([], "a.jpg", [np.zeros((4, 4, 3))], [np.zeros((4, 4, 7), np.uint8)]):
        with pytest.raises(ValueError, match="must be"):
            transformer.fit(wrong)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_damaged_features_are_made_anew(photos, transformer, tmp_path, caplog, damage):
    wanted = transformer.fit_transform(photos)
    (store,) = (tmp_path / "cache").rglob("*.h5")
    data = bytearray(store.read_bytes())
    data[data.index(wanted[2].tobytes())] ^= 1
    store.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "flipped": data}[damage])
    with caplog.at_level("WARNING", "embedkit"):
        assert (transformer.transform(photos) == wanted).all()
    assert store.name in caplog.text
    assert "left aside" in caplog.text
    assert len(list((tmp_path / "cache").rglob("*.h5"))) == 2


def test_parameters_of_numpy(photos, tmp_path):
    settings = {"weights": "random", "cache": tmp_path / "cache"}
    plain = EmbeddingTransformer("tiny", seed=3, normalize=True, batch_size=2, **settings)
    others = {"seed": np.int64(3), "normalize": np.bool_(True), "batch_size": np.int32(2)}
    found = EmbeddingTransformer("tiny", **others, **settings).fit_transform(photos[:2])
    assert (found == plain.fit_transform(photos[:2])).all()
    assert len(list((tmp_path / "cache").rglob("*.h5"))) == 1


def test_tables_of_one_column(photos, transformer):
    names = [str(path) for path in photos]
    wanted = transformer.fit_transform(names)
    for table in (np.array(names)[:, None], pandas.DataFrame({"path": names})):
        assert (transformer.transform(table) == wanted).all()
    with pytest.raises(ValueError, match="one column of paths, not 2"):
        transformer.transform(pandas.DataFrame({"path": names, "label": names}))


@pytest.mark.parametrize("wrong", [None, 3, float("nan"), b"a.jpg"])
def test_what_is_no_image_is_told_with_its_place(photos, transformer, wrong):
    for given in ([photos[0], wrong], pandas.Series([str(photos[0]), wrong], dtype=object)):
        with pytest.raises(ValueError, match=r"image 1 is .*: it must be a path"):
            transformer.fit(given)
    for given in (iter(photos), np.array("a.jpg")):
        with pytest.raises(ValueError, match="X must be a sequence"):
            transformer.fit(given)
