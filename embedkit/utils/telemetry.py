"""Switches off the usage reports of the libraries that embedkit uses.

``embedkit`` calls it when it is imported, before any of them can be.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["switch_off_telemetry"]

# Each library reads its variable when it is imported.
_VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}
_REPORTER = "openvino_telemetry"  # OpenVINO and NNCF do without it where it can't be imported
_SENDING = ("send_event", "send_error", "send_stack_trace", "start_session", "end_session")


def switch_off_telemetry() -> None:
    """Has no library report anything from this process and those that it starts."""
    os.environ.update(_VARIABLES)
    reporter: Any = sys.modules.setdefault(_REPORTER, None)  # type: ignore[arg-type]
    if reporter is not None:  # somebody imported OpenVINO before embedkit
        for name in _SENDING:
            setattr(reporter.Telemetry, name, _send_nothing)


def _send_nothing(*_args: object, **_settings: object) -> None:
    """Takes the place of a method that reports."""
