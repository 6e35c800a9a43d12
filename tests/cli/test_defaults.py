"""Every command has the defaults of the library function behind it."""

import inspect
import os
from enum import Enum

import pytest
import typer.main

import embedkit
from embedkit_cli import main

GROUP = typer.main.get_command(main.app)

# Command to what it calls: functions and classes of settings.
BEHIND = {
    "extract": (embedkit.extract, embedkit.DecodePolicy),
    "merge": (embedkit.merge,),
    "export": (embedkit.export,),
    "index build": (embedkit.Index.build, embedkit.IndexSpec),
    "search": (embedkit.search, embedkit.search_to_file),
    "dedup find": (embedkit.find_duplicates, embedkit.write_duplicates),
    "dedup rethreshold": (embedkit.rethreshold, embedkit.write_duplicates),
    "dedup calibrate": (embedkit.calibrate,),
    "dedup check": (embedkit.check_duplicates,),
    "dedup plan": (embedkit.make_plan, embedkit.write_plan),
    "dedup apply": (embedkit.apply_plan,),
    "dedup purge": (embedkit.purge_journal,),
    "dedup semantic": (embedkit.semantic_dedup,),
    "classify": (embedkit.classify, embedkit.load_backbone),
    "select": (embedkit.select, embedkit.select_subset),
    "cluster": (embedkit.cluster,),
    "probe knn": (embedkit.run_probe,),
    "probe linear": (embedkit.run_probe,),
    "probe predict": (embedkit.predict,),
    "plot": (embedkit.plot,),
    "outliers": (embedkit.find_outliers,),
    "quality": (embedkit.find_quality_issues, embedkit.QualityThresholds, embedkit.write_quality),
}  # fmt: skip

# The option's name to the keyword's, where they differ.
KEYWORDS = {
    "filter": "filters",
    "store": "stores",
    "leaks": "check_leaks",
    "c": "cs",
}

# Deliberate differences: the option's default, the keyword's, and why.
DIFFERENT = {
    ("extract", "background"): ("255,255,255", (255, 255, 255), "text for three numbers"),
    ("extract", "batch_size"): ("auto", None, "the word for None"),
    ("index build", "memory"): ("any", None, "the word for None"),
    ("index build", "metric"): ("cosine", None, "Index.build's keyword overrides its spec's"),
    ("dedup rethreshold", "threshold"): (None, inspect.Parameter.empty, "that of the search"),
    ("plot", "output"): (None, inspect.Parameter.empty, "--atlas writes none"),
    ("select", "per_class"): (None, inspect.Parameter.empty, "select_subset needs none"),
    ("probe linear", "memory"): (2.0, 2**31, "GiB for bytes"),
}

# Options that belong to the command alone.
OWN = {
    ("dedup calibrate", "output"), ("dedup calibrate", "plot"), ("dedup calibrate", "overwrite"),
    ("dedup semantic", "output"), ("dedup semantic", "overwrite"),
    ("dedup plan", "output"), ("dedup apply", "every"), ("dedup purge", "every"),
    ("dedup find", "classes"), ("dedup find", "output"), ("dedup find", "update"),
    ("dedup rethreshold", "classes"),
    ("extract", "resize"), ("extract", "interpolation"), ("extract", "crop_mode"),
    ("extract", "backbone"),
    ("extract", "dry_run"), ("index build", "dry_run"),
    ("plot", "atlas"),
    ("search", "html"), ("search", "images"), ("search", "output"),
    ("search", "vectors"),
    ("outliers", "html"), ("outliers", "images"), ("outliers", "output"),
    ("outliers", "overwrite"),
    ("select", "output"), ("select", "overwrite"), ("select", "webdataset"),
    ("select", "diverse"), ("select", "representative"), ("select", "unique"),
    ("select", "balanced"),
    ("cluster", "html"), ("cluster", "images"), ("cluster", "output"), ("cluster", "overwrite"),
    ("cluster", "examples"), ("quality", "output"),
    ("classify", "backbone"), ("classify", "output"), ("classify", "overwrite"),
    ("classify", "engine"), ("classify", "device"), ("classify", "batch_size"),
    ("classify", "workers"),
    ("probe knn", "images"), ("probe knn", "output"), ("probe knn", "overwrite"),
    ("probe linear", "images"), ("probe linear", "output"), ("probe linear", "overwrite"),
    ("probe linear", "c"), ("probe predict", "output"), ("probe predict", "overwrite"),
}  # fmt: skip
COMMON = {"json", "quiet", "verbose", "config"}


def command_of(name):
    command = GROUP
    for word in name.split():
        command = command.commands[word]
    return command


def library_defaults(name):
    found = {}
    for behind in BEHIND[name]:
        for key, parameter in inspect.signature(behind).parameters.items():
            found.setdefault(key, parameter.default)
    return found


def plain(value):
    """A default as both sides may write it: None for nothing, text for a path or a choice."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if value in ((), [], "", None) else value


@pytest.mark.parametrize("name", BEHIND)
def test_defaults_are_those_of_the_library(name):
    library = library_defaults(name)
    compared = 0
    for option in command_of(name).params:
        key = (name, option.name)
        if option.name in COMMON or key in OWN or option.param_type_name == "argument":
            continue
        keyword = KEYWORDS.get(option.name, option.name)
        keyword = option.name if keyword not in library else keyword
        assert keyword in library, f"{name}: {option.name} is no keyword of the library"
        if option.required:
            assert library[keyword] is inspect.Parameter.empty, option.name
            continue
        pair = plain(option.default), plain(library[keyword])
        if key in DIFFERENT:
            assert pair == DIFFERENT[key][:2], option.name
        else:
            assert pair[0] == pair[1], option.name
        compared += 1
    assert compared


def test_the_tables_name_what_there_is():
    options = {(name, one.name) for name in BEHIND for one in command_of(name).params}
    assert options >= OWN | set(DIFFERENT)
    names = {option for _, option in options}
    assert names >= set(KEYWORDS)
