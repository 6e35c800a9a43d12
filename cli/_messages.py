"""Errors of the library, which name keywords of Python, in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["to_flags", "with_urls"]

_URL = re.compile(r"(?<![\w/])(s3a?|gs|gcs|az|abfss?|memory|https?|hf):/(?=[^/\s])")
_KEYWORD = re.compile(
    r"""(?<![\w./=-])                    # not inside a path
    ([a-z]\w*)=("[^"\s]*"|'[^'\s]*'|[\w.+-]*\w)
    (?=$|[\s,;:)]|[.](?:\s|$))""",
    re.VERBOSE,
)


def to_flags(message: str, options: Iterable[Any]) -> str:
    """Returns a message with ``--name value`` for every ``name=value`` that is an option.

    ``overwrite=True`` becomes ``--overwrite``, ``precision="fp32"`` becomes ``--precision fp32``;
    ``processes=False`` becomes ``--threads``, the flag that turns it off.
    """
    by_name = {one.name: one for one in options if one.param_type_name == "option"}

    def translate(match: re.Match[str]) -> str:
        name, value = match.groups()
        option = by_name.get(name) or by_name.get(name.removesuffix("s"))
        return match.group() if option is None else _flag(option, value)

    return _KEYWORD.sub(translate, message)


def with_urls(message: str) -> str:
    """Returns a message that names URLs as they were given.

    `Path` takes one of their slashes; a copy in embedkit's cache has a path of its own.
    """
    message = _URL.sub(r"\1://", message)
    if "/objects/" not in message:
        return message
    from embedkit.store.object_cache import with_addresses

    return with_addresses(message)


def _flag(option: Any, value: str) -> str:
    on = next((one for one in option.opts if one.startswith("--")), option.opts[0])
    if value == "True":
        return str(on)
    if value == "False":
        return str(option.secondary_opts[0]) if option.secondary_opts else f"no {on}"
    text = value.strip("\"'")
    return f"{on} {text}"
