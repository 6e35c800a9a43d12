"""The document says what the routes are and do."""

import re

import pytest
from starlette.routing import Route

from embedkit.server.endpoint import Parameter
from embedkit.server.failure import RequestError
from embedkit.server.routes.table import ENDPOINTS
from embedkit.server.schema import check_value


def test_each_route_stands_in_the_document_and_each_path_is_a_route(client):
    content = client.get("/openapi.json").json()
    assert content["openapi"].startswith("3.1")
    routes = {
        (method, route.path)
        for route in client.app.app.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    described = {
        (method.upper(), path)
        for path, operations in content["paths"].items()
        for method in operations
    }
    assert described == routes - {("GET", "/"), ("GET", "/openapi.json")}
    names = [one["operationId"] for path in content["paths"].values() for one in path.values()]
    assert len({*names}) == len(names) == len(ENDPOINTS)


def test_the_parameters_of_a_path_are_described():
    for one in ENDPOINTS:
        assert {*re.findall(r"{(\w+)}", one.path)} == {*one.path_parameters}


def test_every_schema_can_be_resolved_and_is_of_the_checked_kind(client):
    known = {
        "type", "enum", "properties", "required", "additionalProperties", "items", "minItems",
        "maxItems", "minLength", "maxLength", "minimum", "maximum", "minProperties",
        "maxProperties", "format",
    }  # fmt: skip

    def walk(schema):
        assert {*schema} <= known
        for one in schema.get("properties", {}).values():
            walk(one)
        if "items" in schema:
            walk(schema["items"])

    for one in ENDPOINTS:
        walk(one.response)
        for schema in one.body.values():
            walk(schema)
    assert client.get("/openapi.json").json()["components"]["schemas"]["Error"]


def test_writes_need_json_alone():
    for one in ENDPOINTS:
        if one.is_write and one.method == "POST":
            assert [*one.body] == ["application/json"]
            assert one.body["application/json"]["additionalProperties"] is False
        assert one.is_write == (one.method == "DELETE") or one.method == "POST"


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [0, -3], [1.5, "1", True, None]),
        ({"type": "number"}, [0, 1.5], ["1", False]),
        ({"type": ["string", "null"]}, ["a", None], [1, []]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
         [["a"], ["a", "b"]], [[], ["a"] * 3, [1], "a"]),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
          "additionalProperties": False}, [{"a": "x"}], [{}, {"a": 1}, {"a": "x", "b": 1}, []]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c"]),
        ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5], [-1, 1.1]),
    ],
)  # fmt: skip
def test_values_are_held_against_schemas(schema, good, bad):
    for value in good:
        check_value(schema, value)
    for value in bad:
        with pytest.raises(RequestError) as caught:
            check_value(schema, value)
        assert caught.value.status == 400


def test_the_schema_of_a_parameter_says_its_limits():
    one = Parameter("k", "integer", "Results.", 5, 1, 9)
    assert one.schema() == {"type": "integer", "minimum": 1, "maximum": 9, "default": 5}
    several = Parameter("f", "string", "Conditions.", is_list=True)
    assert several.schema() == {"type": "array", "items": {"type": "string"}}
