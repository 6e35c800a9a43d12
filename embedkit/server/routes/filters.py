"""The query parameter of filters, and which of them are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.server.endpoint import Parameter
from embedkit.server.failure import RequestError

if TYPE_CHECKING:
    from embedkit.server.call import Call

__all__ = ["FILTER", "check_filters"]

FILTER = Parameter(
    "filter",
    "string",
    "A condition as of --filter, such as label=cat, width>=300 or selection:NAME; several must "
    "all hold.",
    is_list=True,
)


def check_filters(call: Call, filters: list[str]) -> list[str]:
    """Refuses filters on paths where these aren't shown, as they would tell them.

    Raises:
        RequestError: 400; there is one.
    """
    shows = call.service.settings.show_paths
    if not shows and any(one.lstrip().startswith("path") for one in filters):
        raise RequestError(400, "the service was started without --show-paths: no filter on path")
    return filters
