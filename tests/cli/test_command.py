"""What all commands share: common options anywhere, help by sections, renamed options."""

import logging

import pytest
import typer
import typer.main

from embedkit_cli import main

GROUP = typer.main.get_command(main.app)


def all_commands(group, prefix=""):
    for name, command in group.commands.items():
        yield prefix + name, command
        if hasattr(command, "commands"):
            yield from all_commands(command, f"{prefix}{name} ")


COMMANDS = dict(all_commands(GROUP))


def help_of(name):
    command = COMMANDS[name]
    return command.get_help(typer.Context(command, info_name=name, terminal_width=96))


@pytest.mark.parametrize("place", ["before", "after"])
def test_common_options_work_before_and_after_the_command(embedkit, photos, tmp_path, place):
    def call(option, *command):
        return embedkit(option, *command) if place == "before" else embedkit(*command, option)

    path = tmp_path / "x.h5"
    extract = ("extract", photos, "-o", path, "-b", "tiny", "--overwrite")
    assert call("-q", *extract).err == ""
    assert call("--quiet", *extract).err == ""
    assert call("-v", *extract).code == 0
    assert logging.getLogger("embedkit").level == logging.DEBUG
    assert call("--json", "info", path).json["rows"] == 8
    assert call("--json", "models").json


def test_verbose_tells_every_step(embedkit, photos, tmp_path):
    path, index = tmp_path / "x.h5", tmp_path / "x.index"
    told = embedkit("extract", photos, "-o", path, "-b", "tiny", "-v", "--engine", "torch").err
    for step in (
        "opened the source: ", "loaded the backbone: ", "listed: ", "8 files in 1 shards",
        "opened the engine: ", "engine torch on cpu, precision fp32, batches of 4", " threads, ",
        "the cache: ", "embedding: 8 images, ", "wrote the store: ",
        "embedkit extract, all in all: ",
    ):  # fmt: skip
        assert step in told, step
    assert "built the index: " in embedkit("-v", "index", "build", path, "-o", index).err
    for words in (("info", path), ("search", index, path), ("merge", path, "-o", tmp_path / "y")):
        assert f"embedkit {words[0]}, all in all: " in embedkit(*words, "-v").err
        assert "all in all" not in embedkit(*words).err


def test_common_options_work_inside_a_group_too(embedkit, store, tmp_path):
    find = ("find", store, "-o", tmp_path / "found", "--no-report")
    ended = embedkit("dedup", "--json", "--quiet", *find)
    assert (ended.code, ended.err) == (0, "")
    assert "pairs" in ended.json


@pytest.mark.parametrize("place", ["before", "after", "group"])
def test_config_works_before_and_after_the_command(embedkit, store, tmp_path, place):
    config = tmp_path / "embedkit.toml"
    config.write_text("[dedup.find]\nreport = false\nlooks = 5\nprecision = 0.9\n")
    find = ("find", store, "-o", tmp_path / "found", "--precision", "0.95", "--json")
    words = {
        "before": ("--config", config, "dedup", *find),
        "group": ("dedup", "--config", config, *find),
        "after": ("dedup", *find, "--config", config),
    }
    ended = embedkit(*words[place])
    assert ended.code == 0, ended.err
    assert not (tmp_path / "found" / "report.html").exists()


@pytest.mark.parametrize(
    "variable",
    [
        "EMBEDKIT_VERSION",
        "EMBEDKIT_HELP",
        "EMBEDKIT_MODELS_HELP",
        "EMBEDKIT_INSTALL_COMPLETION",
        "EMBEDKIT_SHOW_COMPLETION",
    ],
)
@pytest.mark.parametrize("value", ["1", "0.5.0"])
def test_flags_that_only_print_have_no_environment_variable(embedkit, monkeypatch, variable, value):
    expected = embedkit("models")
    monkeypatch.setenv(variable, value)
    assert embedkit("models") == expected


@pytest.mark.parametrize("args", [(), ("dedup",), ("index",), ("probe",)])
def test_a_group_alone_prints_its_help(embedkit, args):
    ended = embedkit(*args)
    assert ended.code == 2
    assert ended.out.startswith(f"Usage: {' '.join(['embedkit', *args])} [OPTIONS] COMMAND")
    assert "\\n" not in ended.out
    assert ended.err == ""
    assert embedkit(*args, "--help").out == ended.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain(name):
    told = help_of(name)
    assert "env var" not in told
    assert "<" not in told.replace("< <=", "")
    assert "\n  Examples:\n    embedkit " in told
    for line in told.partition("  Examples:\n")[2].splitlines():
        assert f"{line} ".startswith(f"    embedkit {name} ") or hasattr(
            COMMANDS[name], "commands"
        ), line
        assert len(line) <= 96
    options = told.partition("\nOptions:\n")[2].partition("\n\n")[0]
    assert len([line for line in options.splitlines() if line.startswith("  -")]) <= 7


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_of_80_columns_cuts_nothing(name):
    command = COMMANDS.get(name, GROUP)
    told = command.get_help(typer.Context(command, info_name=name or "embedkit", terminal_width=80))
    letters = "".join(told.split())  # lines also end at hyphens
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            assert "".join((parameter.help or "").split()) in letters, parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_texts_are_sentences(name):
    command = COMMANDS[name]
    assert command.help[0].isupper()
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            assert parameter.help.endswith((".", "]")), (name, parameter.name)
            assert parameter.help[0].isupper() or ":" in parameter.help, (name, parameter.name)


def test_renamed_options_keep_working_and_are_not_shown(embedkit, photos, store, tmp_path):
    find = ("dedup", "find", store, "--no-report", "--json")
    for number, option in enumerate((["--looks", "7"], ["--looks=7"])):
        assert embedkit(*find, "-o", tmp_path / f"found{number}", *option).code == 0
    path = tmp_path / "x.h5"
    assert embedkit("extract", photos, "-o", path, "-b", "tiny", "--decode", "exact").code == 0
    assert embedkit("info", path, "--json").json["decode"]["decoder"] == "exact"
    assert "--looks" not in help_of("dedup find")
    assert "--decode " not in help_of("extract")
