"""Rows about JSON Schema: a keyword each, asked for after lines that break it."""

import json
from typing import Any

from rows import M, bound, chat, completion, listed, objects, part, record, row, schema
from servers import Server
from verdicts import BROKEN, WORKS, Verdict, is_valid, judged, never, unanswered, valid

part("JSON Schema, after lines that break it")


def keyword(title: str, line: Any, value: Any) -> None:
    """A row of a schema and a document that it forbids, which the prompt repeats."""
    shown = json.dumps(line, ensure_ascii=False)
    assert not is_valid(value, shown)[0], f"{title}: {shown} does not break its schema"
    bound(title, f"{shown}\n" * 6, schema(value), valid(value), 96)


SHORT = {"type": "string", "maxLength": 12}
ONE_OR_TWO = {"enum": [1, 2]}
NODE = {**objects(v={"enum": [1]}, n={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}), "required": ["v", "n"]}
ODD_NAME = 'a"] | root\n'

keyword(
    "`type`, `required`, `additionalProperties: false`",
    {"a": "x", "b": 1},
    record(a={"type": "integer", "maximum": 99}, c=SHORT),
)
keyword("`minimum`, `maximum`", {"age": 900}, record(age={"type": "integer", "minimum": 10, "maximum": 99}))
keyword("`multipleOf`", {"a": 7}, record(a={"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000}))
keyword("`pattern`", {"id": "abc"}, record(id={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}))
keyword(
    "`pattern` without anchors", {"id": "abc"}, record(id={"type": "string", "pattern": "[0-9]{3}", "maxLength": 9})
)
keyword(
    "`pattern` + `maxLength`", {"id": "abcdef"}, record(id={"type": "string", "pattern": "^[a-z]+$", "maxLength": 4})
)
keyword("`minItems`, `maxItems`", [1, 2], listed(ONE_OR_TWO, minItems=4, maxItems=5))
keyword("`uniqueItems`", [1, 1, 1], listed({"enum": [1, 2, 3]}, minItems=3, maxItems=3, uniqueItems=True))
keyword("`contains`", [1, 1, 1], listed(ONE_OR_TWO, minItems=2, maxItems=3, contains={"const": 2}))
keyword(
    "`prefixItems`, `items: false`",
    ["a", "b"],
    listed(False, prefixItems=[{"const": "a"}, {"type": "integer", "maximum": 99}], minItems=2),
)
keyword("`not`", {"a": "x"}, record(a={"type": "string", "maxLength": 3, "not": {"const": "x"}}))
keyword(
    "`oneOf` of branches that overlap",
    6,
    {"type": "integer", "minimum": 0, "maximum": 20, "oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]},
)
keyword(
    "`allOf`",
    {"a": 1, "b": "x"},
    {"allOf": [record(a={"type": "integer", "maximum": 99}, b=SHORT), {"properties": {"a": {"minimum": 50}}}]},
)
keyword(
    "`if`, `then`",
    {"kind": "card"},
    {
        **objects(kind={"enum": ["card", "cash"]}, number={"type": "integer", "maximum": 9999}),
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "card"}}},
        "then": {"required": ["number"]},
    },
)
keyword(
    "`dependentRequired`",
    {"card": 1},
    {
        **objects(card={"type": "integer", "maximum": 99}, name=SHORT),
        "required": ["card"],
        "dependentRequired": {"card": ["name"]},
    },
)
keyword("`minProperties`", {}, {**objects(a={"enum": [1]}, b={"enum": [2]}), "minProperties": 2})
keyword(
    "`patternProperties`",
    {"n_a": "x"},
    {**objects(), "patternProperties": {"^n_[a-c]$": ONE_OR_TWO}, "minProperties": 1, "maxProperties": 2},
)
keyword(
    "`propertyNames`",
    {"B": 1},
    {**objects(), "propertyNames": {"enum": ["aa", "bb"]}, "additionalProperties": ONE_OR_TWO, "minProperties": 1},
)
keyword(
    "`unevaluatedProperties: false`",
    {"a": 1, "z": 1},
    {"type": "object", "properties": {"a": ONE_OR_TWO}, "required": ["a"], "unevaluatedProperties": False},
)
keyword(
    "`$ref` to a recursive definition",
    {"v": 1, "n": {"v": 1, "n": 1}},
    {"$ref": "#/$defs/n", "$defs": {"n": NODE}},
)
keyword("texts outside ASCII in `enum`", "Zurich", {"enum": ["Zürich", "東京", '🦊 "fox"']})
keyword(
    "names and descriptions full of grammar",
    {"a": 1},
    {**record(**{ODD_NAME: {**ONE_OR_TWO, "description": '\\"}]'}}), "description": '"] root ::= "x" #\n\\ %json {'},
)


@row("`$ref` to another host (it has to be refused: nobody has the schema)")
def external_reference(server):
    value = record(a={"$ref": "http://127.0.0.1:9/other.json"})
    return judged(completion(server, '{"a": 1}\n' * 6, 24, **schema(value)[server.dialect]), never)


@row("a schema that nothing satisfies (it has to be refused)")
def unsatisfiable(server):
    value = {"allOf": [{"type": "string", "minLength": 5}, {"type": "string", "maxLength": 2}]}
    return judged(completion(server, '"abc"\n' * 4, 24, **schema(value)[server.dialect]), never)


TRIP = record(city={"enum": ["Paris", "Oslo"]}, days={"type": "integer", "minimum": 3, "maximum": 9})
TRIP_ASKED = 'Write only: {"city": "Rome", "days": 1}'


@row("`response_format` of a chat, `strict: true`")
def strict_format(server: Server) -> Verdict:
    named = {"name": "trip", "strict": True, "schema": TRIP}
    same = {"response_format": {"type": "json_schema", "json_schema": named}}
    return judged(chat(server, TRIP_ASKED, **(schema(TRIP)[M] if server.dialect == M else same)), valid(TRIP))


@row("the same through `/v1/responses`", http=True)
def responses_format(server: Server) -> Verdict:
    form = {"type": "json_schema", "name": "trip", "strict": True, "schema": TRIP}
    body = {"input": TRIP_ASKED, "max_output_tokens": 64, "temperature": 0, "text": {"format": form}}
    exchange = server.ask("/v1/responses", body)
    if verdict := unanswered(exchange):
        return verdict
    pieces = [piece for item in exchange.json().get("output", []) for piece in item.get("content") or []]
    holds, note = is_valid(TRIP, "".join(piece.get("text", "") for piece in pieces))
    return Verdict(WORKS if holds else BROKEN, note)
