"""Writes docs/cli.md from the commands' own help: ``python scripts/cli_reference.py``."""

import os
from collections.abc import Iterator
from pathlib import Path

import typer.core
import typer.main
from embedkit_cli.main import app

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Command line

Made from `embedkit COMMAND --help` by `python scripts/cli_reference.py`.

Results go to standard output, everything else to standard error. Every option can also be given
as an environment variable, `EMBEDKIT_<COMMAND>_<OPTION>` (`EMBEDKIT_EXTRACT_BACKBONE`), or in a
TOML file that `--config` (or `EMBEDKIT_CONFIG`) names, with a table a command:

```toml
[extract]
backbone = "resnet50_swsl"

[index.build]
memory = "2GB"
```

Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
"""


def reference() -> str:
    """The whole text of docs/cli.md."""
    os.environ["COLUMNS"] = "96"
    return "\n".join([HEAD, *_sections(typer.main.get_command(app), "embedkit")])


def _sections(command: typer.core.TyperCommand | typer.core.TyperGroup, name: str) -> Iterator[str]:
    """A command's section, and those of the commands in it."""
    yield _section(command, name)
    for inner, subcommand in getattr(command, "commands", {}).items():
        yield from _sections(subcommand, f"{name} {inner}")


def _section(command: typer.core.TyperCommand | typer.core.TyperGroup, name: str) -> str:
    context = typer.Context(
        command,
        info_name=name,
        terminal_width=96,
        max_content_width=96,
        help_option_names=["-h", "--help"],
    )
    return f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
