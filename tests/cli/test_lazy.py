"""Commands are imported when they are called, and the help knows them all."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from embedkit_cli import main

GROUP = typer.main.get_command(main.app)
COMMANDS = {path.stem for path in Path(main.__file__).parent.glob("[a-z]*.py")} - {"main"}


def imported(*args):
    """The modules of the command line that a fresh process has imported in the end."""
    script = (
        "import sys; sys.argv[0] = 'embedkit'\n"
        "from embedkit_cli.main import run\n"
        "try: run()\n"
        "finally:\n"
        "    found = (m for m in sys.modules if m.startswith('embedkit_cli.'))\n"
        "    print(*found, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args], capture_output=True, text=True, check=True
    )
    return {name.removeprefix("embedkit_cli.") for name in done.stderr.split()}


def test_a_command_imports_no_other():
    assert imported("models") & COMMANDS == {"models"}
    assert imported("--help") & COMMANDS == set()


def test_help_names_every_command_and_shortens_none():
    told = GROUP.get_help(typer.Context(GROUP, info_name="embedkit", terminal_width=80))
    for name, summary in GROUP.summaries.items():
        assert f"  {name} " in told
        assert summary in told


def test_every_command_can_be_made():
    for name, command in GROUP.commands.items():
        assert command.get_help(typer.Context(command, info_name=name))


@pytest.mark.parametrize("name", ["serach", "_output", "main", "__init__"])
def test_only_what_is_named_is_a_command(name):
    assert GROUP.get_command(None, name) is None
