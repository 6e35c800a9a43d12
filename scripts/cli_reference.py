"""Writes docs/cli.md from the commands' help: ``python scripts/cli_reference.py``."""

import os
from collections.abc import Iterator
from pathlib import Path

import typer.core
import typer.main

from embedkit_cli.main import app

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Command line

Generated from `embedkit COMMAND --help` by `python scripts/cli_reference.py`.

Results go to standard output, everything else to standard error. `--quiet`, `--verbose`, `--json`
and `--config` work before and after the command.

Every option can also be set by an environment variable, `EMBEDKIT_<COMMAND>_<OPTION>` (such as
`EMBEDKIT_EXTRACT_BACKBONE`), or in a TOML file given by `--config` (or `EMBEDKIT_CONFIG`), with one
table per command:

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
    group = typer.main.get_command(app)
    parts = [HEAD, _section(group, "embedkit")]
    parts += [_section(command, f"embedkit {name}") for name, command in walk(group)]
    return "\n".join(parts)


def walk(
    group: typer.core.TyperGroup, prefix: str = ""
) -> Iterator[tuple[str, typer.core.TyperCommand | typer.core.TyperGroup]]:
    """Every command with its name, those of groups too: ``dedup``, ``dedup find``."""
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, typer.core.TyperGroup):
            yield from walk(command, f"{prefix}{name} ")


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
