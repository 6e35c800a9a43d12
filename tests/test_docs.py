"""The documents say what the code does: commands, options, links, error names."""

import re
import sys
from pathlib import Path

import pytest
import typer.main

import embedkit
from embedkit import errors
from embedkit_cli._renamed import current_name
from embedkit_cli.main import app

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md")
DOCS = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md"))]


def all_commands(group, prefix=""):
    """Name to command, those of groups as ``dedup find``."""
    for name, command in group.commands.items():
        yield prefix + name, command
        yield from all_commands(command, f"{prefix}{name} ") if hasattr(command, "commands") else ()


COMMANDS = dict(all_commands(typer.main.get_command(app)))


def blocks(path, language):
    """The blocks of code of one language in a document."""
    text = path.read_text("utf-8")
    return re.findall(rf"^```{language}$(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_lines(path):
    """The commands of embedkit inside a document's shell blocks."""
    lines = (line for block in blocks(path, "sh") for line in block.splitlines())
    return [line for line in lines if line.startswith("embedkit ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_docs(name):
    command = COMMANDS[name]
    assert command.help
    assert len(command.help.splitlines()[0]) > 20
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
    guides = [path for path in DOCS if path.name != "cli.md"]
    assert any(f"embedkit {name}" in path.read_text("utf-8") for path in guides)


def test_cli_reference_is_current():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import cli_reference
    finally:
        sys.path.pop(0)
    current = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert current == cli_reference.reference(), "run python scripts/cli_reference.py"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_and_options_in_docs_exist(path):
    for line in shell_lines(path):
        words = line.split("#")[0].split()
        if len(words) < 2 or words[1].startswith(("-", "COMMAND")):
            continue
        command = COMMANDS.get(" ".join(words[1:3])) or COMMANDS[words[1]]
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        for word in words[2:]:
            if word.startswith("-") and word != "-":
                option = "--" + current_name(word.split("=")[0].removeprefix("--"))
                assert option in known | {"--help"} or word in known | {"-h"}, line


def test_every_public_name_is_on_the_api_page():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    listed = re.findall(r"^::: embedkit\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(set(embedkit.__all__) - {"__version__"})


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r": (\w+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_error_is_documented_and_drawn():
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    for name in errors.__all__:
        assert f"`{name}`" in text, name
        assert name in errors.__doc__, name


def test_every_format_attribute_is_documented():
    import dataclasses

    from embedkit.store.format import IMAGE_DTYPES, StoreMeta

    text = (ROOT / "docs" / "formats.md").read_text("utf-8")
    for name in [field.name for field in dataclasses.fields(StoreMeta)] + list(IMAGE_DTYPES):
        assert f"{name}`" in text, name


def test_documents_speak_of_the_project_alone():
    for path in DOCS:
        assert not re.search(r"/(work|root|tmp|home)/", path.read_text("utf-8")), path
