"""The review of near-duplicates."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from embedkit.server.call import answer, shown_name
from embedkit.server.endpoint import Endpoint, Parameter
from embedkit.server.failure import RequestError
from embedkit.server.item_keys import key_of
from embedkit.server.review.desk import GroupFilter, ReviewDesk
from embedkit.server.review.state import ACTIONS
from embedkit.server.routes.items import PAGE
from embedkit.server.routes.schemas import GROUP, INTEGER, REVIEW, TEXT, list_of, table
from embedkit.server.uploads import JSON
from embedkit.tabular import valid_text

if TYPE_CHECKING:
    from starlette.responses import Response

    from embedkit.server.call import Call
    from embedkit.server.review.state import ReviewGroup

__all__ = ["ENDPOINTS"]


def _desk(call: Call) -> ReviewDesk:
    desk = call.service.review
    if desk is None:
        raise RequestError(404, "there is nothing to review: start the service with --dups FOLDER")
    return desk


async def _summary(call: Call) -> Response:
    return await call.respond(_desk(call).summary)


async def _groups(call: Call) -> Response:
    return await call.respond(_page, call, _desk(call))


def _page(call: Call, desk: ReviewDesk) -> dict[str, Any]:
    query = call.query
    names = ("min_score", "max_score", "kind", "folder", "state")
    found = desk.groups(GroupFilter(**{name: query[name] for name in names}))
    some = desk.proposed(found[query["offset"] : query["offset"] + query["limit"]])
    return {"total": len(found), "groups": [_shown(call, desk, group) for group in some]}


def _shown(call: Call, desk: ReviewDesk, group: ReviewGroup) -> dict[str, Any]:
    members, weakest = desk.evidence(group)
    items = _items(call, desk, group.members)
    first = min(group.keep)
    return {
        "id": group.id,
        "state": group.state,
        "score": weakest,
        "keeper": items[group.members.index(first)]["id"],
        "members": [
            {
                "item": item,
                "keep": image in group.keep,
                "score": members[image].score,
                "edit": members[image].edit or None,
                "reason": members[image].reason,
                "bytes": int(desk.found.images.nbytes[image]),
            }
            for image, item in zip(group.members, items, strict=True)
        ],
    }


def _items(call: Call, desk: ReviewDesk, places: tuple[int, ...]) -> list[dict[str, Any]]:
    """What is shown of some images; also of those that left the index since."""
    images = desk.found.images
    names = [images.ids[place] for place in places]
    rows = call.served.rows_of(names).tolist()
    known = iter(call.items([row for row in rows if row >= 0]))
    shows = call.service.settings.show_paths
    return [
        next(known)
        if row >= 0
        else {
            "id": key_of(name, call.service.secret),
            "name": shown_name(name, show_paths=shows),
            "width": int(images.width[place]),
            "height": int(images.height[place]),
            "label": valid_text(images.labels[place]) or None,
            "has_image": False,
        }
        for place, name, row in zip(places, names, rows, strict=True)
    ]


async def _act(call: Call) -> Response:
    return await call.respond(_acted, call, _desk(call))


def _acted(call: Call, desk: ReviewDesk) -> dict[str, Any]:
    body = call.body
    action, name, other = body["action"], body.get("group", ""), body.get("other", "")
    try:
        items = _places(call, desk, name, body.get("items", [])) if action != "undo" else []
        change = desk.act(action, name, items, other)
    except KeyError as exc:
        raise RequestError(404, "there is no such group") from exc
    except ValueError as exc:
        raise RequestError(409, str(exc)) from exc
    return {
        "groups": [_shown(call, desk, desk.group(one)) for one in change.changed],
        "gone": list(change.gone),
        "review": desk.summary(),
    }


def _places(call: Call, desk: ReviewDesk, name: str, keys: list[str]) -> list[int]:
    """The places of images of a group by their opaque names."""
    ids, secret = desk.found.images.ids, call.service.secret
    places = {key_of(ids[place], secret): place for place in desk.group(name).members}
    if unknown := [key for key in keys if key not in places]:
        raise RequestError(409, f"{len(unknown)} of the images aren't in the group")
    return [places[key] for key in keys]


async def _plan(call: Call) -> Response:
    desk = _desk(call)
    with_undecided = call.body.get("undecided", "keep") == "as-found"
    written = await call.service.run_slowly(lambda: desk.write_plan(with_undecided=with_undecided))
    path = written.path if call.service.settings.show_paths else written.path.name
    return answer(
        {
            "name": written.path.name,
            "removed": written.removed,
            "not_verified": written.not_verified,
            "command": f"embedkit dedup apply {shlex.quote(str(path))}",
        },
        201,
    )


_ACTION = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": list(ACTIONS)},
        "group": {"type": "string", "maxLength": 40},
        "items": {"type": "array", "items": {"type": "string"}, "maxItems": 100_000},
        "other": {"type": "string", "maxLength": 40},
    },
    "required": ["action"],
    "additionalProperties": False,
}
_PLAN = {
    "type": "object",
    "properties": {"undecided": {"type": "string", "enum": ["keep", "as-found"]}},
    "additionalProperties": False,
}
_CHANGED = table(groups=list_of(GROUP), gone=list_of(TEXT), review=REVIEW)
_WRITTEN = table(name=TEXT, removed=INTEGER, not_verified=INTEGER, command=TEXT)
_NONE = {404: "There is nothing to review, or no such group."}
ENDPOINTS = (
    Endpoint(
        "GET", "/v1/review", _summary, "How far the review is.", response=REVIEW, statuses=_NONE
    ),
    Endpoint(
        "GET",
        "/v1/review/groups",
        _groups,
        "Groups of near-duplicates.",
        parameters=(
            Parameter("min_score", "number", "The least weakest score.", None, 0, 1),
            Parameter("max_score", "number", "The greatest weakest score.", None, 0, 1),
            Parameter("kind", "string", "A kind of edit.", ""),
            Parameter("folder", "string", "A folder of an image.", ""),
            Parameter(
                "state",
                "string",
                "What was decided.",
                "all",
                choices=("pending", "accepted", "rejected", "all"),
            ),
            *PAGE,
        ),
        response=table(total=INTEGER, groups=list_of(GROUP)),
        statuses=_NONE,
    ),
    Endpoint(
        "POST",
        "/v1/review/actions",
        _act,
        "Decide about a group; on disk when it is answered.",
        body={JSON: _ACTION},
        response=_CHANGED,
        is_write=True,
        statuses={**_NONE, 409: "The action can't be done."},
    ),
    Endpoint(
        "POST",
        "/v1/review/plan",
        _plan,
        "Write the plan that `embedkit dedup apply` takes.",
        body={JSON: _PLAN},
        response=_WRITTEN,
        is_write=True,
        statuses={**_NONE, 201: "It is written."},
    ),
)
