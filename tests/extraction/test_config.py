"""The settings of an extraction: one list, for ``extract``, ``preview`` and what they hand on."""

import inspect
from dataclasses import fields

import pytest

import embedkit
from embedkit.backbones.config import LoadConfig
from embedkit.extraction.config import ExtractConfig, RunConfig


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def settings(*classes):
    return {
        field.name: getattr(cls(), field.name)
        for cls in classes
        for field in fields(cls)
        if field.name != "loading"
    }


def test_the_keywords_of_extract_are_the_settings_with_their_defaults():
    keywords = defaults(embedkit.extract)
    assert (keywords.pop("stop"), keywords.pop("progress")) == (None, False)
    keywords["policy"] = keywords["policy"] or embedkit.DecodePolicy()
    assert keywords == settings(ExtractConfig, LoadConfig, RunConfig)


def test_load_backbone_has_the_same_keywords():
    keywords = defaults(embedkit.load_backbone)
    assert {name: keywords[name] for name in settings(LoadConfig)} == settings(LoadConfig)


def test_preview_takes_every_keyword_of_extract(tmp_path):
    keywords = dict(defaults(embedkit.extract).items())
    with pytest.raises(embedkit.SourceError):
        embedkit.preview(tmp_path / "none", tmp_path / "a.h5", **keywords)
    with pytest.raises(TypeError, match="sead"):
        embedkit.preview(tmp_path / "none", tmp_path / "a.h5", sead=1)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"shard_rows": 0}, {"dtype": "int"}])
def test_settings_out_of_range_are_refused_before_any_work(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        embedkit.extract(tmp_path / "none", tmp_path / "a.h5", **wrong)
