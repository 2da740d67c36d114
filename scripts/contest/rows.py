"""The rows of the table: what is asked of every server, in its own words, and what has to be true of the answer.

A row is a function from a server to a verdict; most are made by `bound`, which sends one completion with a constraint,
judges its text, and asks again without the constraint to see whether the free text would have held anyway. Prompts are
lines that break what is asked for, over and over, so that a model that goes on like them breaks it too.

Temperature is 0 and the seed is fixed, where a row does not say otherwise. What a server has no words for is not sent:
`cannot be asked`. mistral.rs is tried through its bindings, so what belongs to HTTP is `not tried` there.
"""

import ast
import concurrent.futures
import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from servers import Exchange, Server
from verdicts import (
    BROKEN,
    CANNOT,
    CUT_OFF,
    FAILED,
    REFUSED,
    UNTRIED,
    WORKS,
    Judge,
    Verdict,
    anything,
    both,
    choices,
    finish,
    first_text,
    is_valid,
    json_matches,
    judged,
    matches,
    quoted,
    text_of,
    unanswered,
    valid,
    without,
)

A, L, M = "ananke", "llama.cpp", "mistral.rs"
Fields = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    part: str
    title: str
    run: Callable[[Server], Verdict]


ROWS: list[Row] = []
PART = [""]


def part(title: str) -> None:
    """The rows that follow belong together."""
    PART[0] = title


def row(title: str, *, http: bool = False):
    """Registers a row; `http` is what only a server with HTTP of its own can show."""

    def register(function: Callable[[Server], Verdict]) -> Callable[[Server], Verdict]:
        def run(server: Server) -> Verdict:
            if http and not server.has_http:
                return Verdict(UNTRIED, "the bindings have no HTTP")
            return function(server)

        ROWS.append(Row(PART[0], title, run))
        return function

    return register


# --- requests in each server's words ---------------------------------------------------------------------------------


def completion(server: Server, prompt: str, max_tokens: int = 64, **fields: Any) -> Exchange:
    """A completion with the fields of its server; temperature 0 unless they say otherwise."""
    if server.name == M:
        return server.ask("/completion", {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0.0, **fields})
    body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "seed": 1, **fields}
    return server.ask("/v1/completions", body)


def chat(server: Server, text: str, max_tokens: int = 96, **fields: Any) -> Exchange:
    messages = [{"role": "user", "content": text}]
    if server.name == M:
        return server.ask("/chat", {"messages": messages, "max_tokens": max_tokens, "temperature": 0.0, **fields})
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "seed": 1, **fields}
    return server.ask("/v1/chat/completions", body)


def schema(value: Any) -> dict[str, Fields]:
    """A JSON Schema for the whole text: `json_schema` is llama.cpp's field, and ours too."""
    same = {"json_schema": value}
    return {A: same, L: same, M: {"grammar_type": "json_schema", "grammar": json.dumps(value)}}


def grammar(gbnf: str, lark: str | None) -> dict[str, Fields]:
    """A grammar for the whole text: GBNF, or the same in the Lark that mistral.rs takes."""
    asked = {A: {"grammar": gbnf}, L: {"grammar": gbnf}}
    return asked | ({M: {"grammar_type": "lark", "grammar": lark}} if lark else {})


def regex(pattern: str) -> dict[str, Fields]:
    """A pattern for the whole text; llama.cpp has patterns in schemas alone, so its text is a JSON string."""
    return {
        A: {"structured_outputs": {"regex": pattern}},
        L: {"json_schema": {"type": "string", "pattern": f"^{pattern}$"}},
        M: {"grammar_type": "regex", "grammar": pattern},
    }


def tokens(server: Server, text: str) -> list[int]:
    """The ids of a text, as the server itself splits it."""
    reply = server.ask("/tokenize", {"text" if server.name == M else "content": text}).json()
    return reply["tokens"]


def bias(server: Server, texts: list[str], value: float) -> dict[str, float]:
    """The same bias on every token of some texts."""
    return {str(token): value for text in texts for token in tokens(server, text)}


def bound(
    title: str,
    prompt: str,
    asked: dict[str, Fields],
    judge: Judge | dict[str, Judge],
    max_tokens: int = 64,
    cannot: dict[str, str] | None = None,
) -> None:
    """A row of one completion under a constraint."""

    def run(server: Server) -> Verdict:
        if server.name not in asked:
            return Verdict(CANNOT, (cannot or {}).get(server.name, ""))
        own = judge[server.name] if isinstance(judge, dict) else judge
        verdict = judged(completion(server, prompt, max_tokens, **asked[server.name]), own)
        if verdict.kind == WORKS and own is not anything:
            free = completion(server, prompt, max_tokens)
            if free.is_ok and own(first_text(free))[0]:
                verdict.note += " (the free text holds it too)"
        return verdict

    ROWS.append(Row(PART[0], title, run))


def hostile(
    title: str, asked: dict[str, Fields], judge: Judge | dict[str, Judge] = anything, max_tokens: int = 8
) -> None:
    """A row of one constraint that no server should suffer from: refusing it and keeping it are both well."""

    def run(server: Server) -> Verdict:
        if server.name not in asked:
            return Verdict(CANNOT)
        own = judge[server.name] if isinstance(judge, dict) else judge
        exchange = completion(server, "aaaa", max_tokens, **asked[server.name])
        verdict = judged(exchange, own)
        verdict.note = f"{exchange.seconds:.1f} s, {verdict.note}"
        return after(server, verdict)

    ROWS.append(Row(PART[0], title, run))


def after(server: Server, verdict: Verdict) -> Verdict:
    """A verdict, if the server answers a plain request behind it."""
    plain = completion(server, "The sea is", 4)
    if not plain.is_ok:
        return Verdict(plain.outcome if plain.status is None else FAILED, f"on the next request, after: {verdict}")
    return verdict


def names(exchange: Exchange, *places: str) -> str:
    """How a refusal names the place of the fault: one of the given texts, or a line, a column, a pointer."""
    error = exchange.error()
    found = [place for place in places if place in error]
    found += re.findall(r"line \d+|column \d+|\d+:\d+|(?:char|byte|offset|position|pos) \d+", error)
    return f"names {found[0]}" if found else "names no place"


def malformed(title: str, asked: dict[str, Fields], *places: str, judge: Judge = lambda text: (False, quoted(text))):
    """A row of a constraint that is wrong: it has to be refused, and well with the place."""

    def run(server: Server) -> Verdict:
        if server.name not in asked:
            return Verdict(CANNOT)
        exchange = completion(server, "aaaa", 8, **asked[server.name])
        verdict = judged(exchange, judge)
        if verdict.kind == CUT_OFF:
            verdict.kind = BROKEN
        if verdict.kind in (REFUSED, FAILED):
            verdict.note = f"{names(exchange, *places)}: {verdict.note}"
        return after(server, verdict)

    ROWS.append(Row(PART[0], title, run))


# --- several at once, forbidden text ---------------------------------------------------------------------------------

part("Several constraints at once")

WORD = {
    "type": "object",
    "properties": {"word": {"type": "string", "minLength": 3, "maxLength": 20}},
    "required": ["word"],
    "additionalProperties": False,
}
ONE_GRAMMAR = "the bindings have one `grammar` and one `grammar_type`"


@row("schema + forbidden text")
def schema_and_forbidden(server):
    fields = schema(WORD)[server.name]
    if server.name == A:
        fields = {**fields, "constraint_ir": {"forbidden_text": [{"text": "password"}]}}
    else:
        # The nearest that is documented: no token of the word, with and without the blank before it.
        fields = {**fields, "logit_bias": bias(server, ["password", " password"], -100.0)}
    exchange = completion(server, '{"word": "password"}\n' * 6, 40, **fields)
    return judged(exchange, both(valid(WORD), without("password")))


NUMBER = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 100, "maximum": 999}}, "required": ["a"]}
bound(
    "schema + grammar",
    '{"a": 7}\n' * 6,
    {name: {"json_schema": NUMBER, "grammar": r'root ::= "{\"a\":" [0-9]+ "}"'} for name in (A, L)},
    both(valid(NUMBER), matches(r'\{"a":[0-9]+\}')),
    cannot={M: ONE_GRAMMAR},
)
bound(
    "two patterns, both for the whole text",
    "the cat sat on the mat. the cat sat on the mat. ",
    {
        A: {"constraint_ir": {"regex_patterns": [
            {"any_of": [{"pattern": "[a-z ]{20,40}"}], "match": "full"},
            {"any_of": [{"pattern": "zebra"}], "match": "contains"},
        ]}},
        # Lark as llguidance reads it can intersect terminals.
        M: {"grammar_type": "lark", "grammar": "start: BOTH\nBOTH: /[a-z ]{20,40}/ & /[a-z ]*zebra[a-z ]*/"},
    },
    both(matches("[a-z ]{20,40}"), matches(".*zebra.*")),
    cannot={L: "GBNF has no intersection, and there is one `grammar`"},
)  # fmt: skip
bound(
    "schema + forbidden text + pattern + grammar",
    '{"word": "password"}\n' * 6,
    {A: {
        "json_schema": WORD,
        "grammar": r'root ::= "{\"word\": \"" [a-z]+ "\"}"',
        "structured_outputs": {"regex": r".{15,30}"},
        "constraint_ir": {"forbidden_text": [{"text": "password"}]},
    }},
    both(valid(WORD), without("password"), matches(r'\{"word": "[a-z]+"\}'), matches(".{15,30}")),
    cannot={L: "see the rows above", M: ONE_GRAMMAR},
)  # fmt: skip


@row("parts that contradict each other")
def contradicting_parts(server):
    if server.name == M:
        return Verdict(CANNOT, ONE_GRAMMAR)
    fields = {"json_schema": {"type": "integer"}, "grammar": 'root ::= "x" [a-z]*'}
    exchange = completion(server, "1\n2\n3\n", 8, **fields)
    return judged(exchange, lambda text: (False, quoted(text)))


part("Forbidden text")


@row("a word that the model wants to write, temperature 0")
def forbidden_greedy(server):
    return judged(forbidden(server, 0, 1), without("password"))


def forbidden(server: Server, temperature: float, seed: int) -> Exchange:
    prompt = "password " * 30
    if server.name == A:
        fields = {"constraint_ir": {"forbidden_text": [{"text": "password"}]}}
    else:
        fields = {"logit_bias": bias(server, ["password", " password"], -100.0)}
    if server.name != M:  # the bindings have no seed in a request
        fields["seed"] = seed
    return completion(server, prompt.strip(), 40, **{**fields, "temperature": temperature})


@row("the same, 10 times at temperature 1")
def forbidden_sampled(server):
    texts = []
    for seed in range(10):
        exchange = forbidden(server, 1.0, seed)
        if verdict := unanswered(exchange):
            return verdict
        texts.append(first_text(exchange))
    leaks = [text for text in texts if "password" in text]
    if leaks:
        return Verdict(BROKEN, f"in {len(leaks)} of {len(texts)} texts: {quoted(leaks[0])}")
    return Verdict(WORKS, f"in none of {len(texts)}: {quoted(texts[0])}")


def avoiding(word: str) -> str:
    """GBNF of every text without a word: its Knuth-Morris-Pratt automaton, a rule per state."""

    def step(state: int, char: str) -> int:
        text = word[:state] + char
        return max(length for length in range(len(text) + 1) if text.endswith(word[:length]))

    letters, rules = sorted(set(word)), []
    for state in range(len(word)):
        arrows = [f'"{char}" s{step(state, char)}' for char in letters if step(state, char) < len(word)]
        rules.append(f's{state} ::= "" | [^{"".join(letters)}] s0 | {" | ".join(arrows)}')
    return "root ::= s0\n" + "\n".join(rules)


bound(
    "written out by the client as a grammar of all other texts",
    "password " * 30,
    grammar(avoiding("password"), "start: OTHER\nOTHER: /(?s:.*)/ & ~/(?s:.*password.*)/"),
    without("password"),
    40,
)

part("Soft inside hard")

COLOURS = ["red", "green", "blue"]
COLOUR = {
    **grammar('root ::= "red" | "green" | "blue"', 'start: "red" | "green" | "blue"'),
    A: {"structured_outputs": {"choice": COLOURS}},
}


@row("`logit_bias` on one of three choices, and on what is none of them")
def bias_inside_choice(server):
    fields = {**COLOUR[server.name], "logit_bias": bias(server, ["blue", "purple"], 50.0)}
    judge = matches("blue")
    verdict = judged(completion(server, "red red red red red ", 8, **fields), judge)
    return verdict


@row("a bias on a text, however it is split")
def soft_text(server):
    if server.name == M:
        return Verdict(CANNOT, "`logit_bias` takes ids")
    if server.name == A:
        fields = {"constraint_ir": {"soft": [{"text": "blue", "bias": 50}]}}
    else:
        fields = {"logit_bias": [["blue", 50]]}
    exchange = completion(server, "red red red red red ", 8, **COLOUR[server.name], **fields)
    return judged(exchange, matches("blue"))


# --- JSON Schema -----------------------------------------------------------------------------------------------------

part("JSON Schema, after lines that break it")


def keyword(title: str, line: Any, value: Any, max_tokens: int = 96, prompt: str | None = None) -> None:
    """A row of a schema and a document that it forbids, which the prompt repeats."""
    shown = json.dumps(line, ensure_ascii=False)
    assert not is_valid(value, shown)[0], f"{title}: {shown} does not break its schema"
    bound(title, prompt or f"{shown}\n" * 6, schema(value), valid(value), max_tokens)


def record(**properties: Any) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SHORT = {"type": "string", "maxLength": 12}
keyword("`type`, `required`, `additionalProperties: false`", {"a": "x", "b": 1}, record(a={"type": "integer"}, c=SHORT))
keyword("`minimum`, `maximum`", {"age": 900}, record(age={"type": "integer", "minimum": 10, "maximum": 99}))
keyword("`multipleOf`", {"a": 7}, record(a={"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000}))
keyword("`pattern`", {"id": "abc"}, record(id={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}))
keyword(
    "`pattern` without anchors", {"id": "abc"}, record(id={"type": "string", "pattern": "[0-9]{3}", "maxLength": 12})
)
keyword(
    "`format: date`", {"day": "tomorrow"}, {**record(day={"type": "string", "format": "date", "pattern": "^[0-9-]+$"})}
)
keyword("`minItems`, `maxItems`", [1, 2], {"type": "array", "items": {"enum": [1, 2]}, "minItems": 4, "maxItems": 5})
keyword(
    "`uniqueItems`",
    [1, 1, 1],
    {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "maxItems": 3, "uniqueItems": True},
)
keyword(
    "`contains`",
    [1, 1, 1],
    {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 3, "contains": {"const": 2}},
)
keyword(
    "`prefixItems`, `items: false`",
    ["a", "b"],
    {
        "type": "array",
        "prefixItems": [{"const": "a"}, {"type": "integer", "maximum": 99}],
        "items": False,
        "minItems": 2,
    },
)
keyword("`not`", {"a": "x"}, record(a={"type": "string", "maxLength": 3, "not": {"const": "x"}}))
keyword(
    "`oneOf` of branches that overlap",
    6,
    {"type": "integer", "minimum": 0, "maximum": 20, "oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]},
)
keyword(
    "`allOf`",
    {"a": 1},
    {"allOf": [record(a={"type": "integer"}, b=SHORT), {"properties": {"a": {"minimum": 50}, "b": {"minLength": 2}}}]},
)
keyword(
    "`if`, `then`",
    {"kind": "card"},
    {
        "type": "object",
        "properties": {"kind": {"enum": ["card", "cash"]}, "number": {"type": "integer", "maximum": 9999}},
        "required": ["kind"],
        "additionalProperties": False,
        "if": {"properties": {"kind": {"const": "card"}}},
        "then": {"required": ["number"]},
    },
)
keyword(
    "`dependentRequired`",
    {"card": 1},
    {
        "type": "object",
        "properties": {"card": {"type": "integer", "maximum": 99}, "name": SHORT},
        "required": ["card"],
        "additionalProperties": False,
        "dependentRequired": {"card": ["name"]},
    },
)
keyword(
    "`minProperties`",
    {},
    {
        "type": "object",
        "properties": {"a": {"enum": [1]}, "b": {"enum": [2]}},
        "additionalProperties": False,
        "minProperties": 2,
    },
)
keyword(
    "`patternProperties`",
    {"n_a": "x"},
    {
        "type": "object",
        "patternProperties": {"^n_[a-c]$": {"enum": [1, 2]}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    },
)
keyword(
    "`propertyNames`",
    {"B": 1},
    {
        "type": "object",
        "propertyNames": {"enum": ["aa", "bb"]},
        "additionalProperties": {"enum": [1, 2]},
        "minProperties": 1,
        "maxProperties": 2,
    },
)
keyword(
    "`unevaluatedProperties: false`",
    {"a": 1, "z": 1},
    {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "unevaluatedProperties": False},
)
keyword(
    "`$ref` to a recursive definition",
    {"v": 1, "n": {"v": 1, "n": 1}},
    {
        "$ref": "#/$defs/n",
        "$defs": {
            "n": {
                "type": "object",
                "properties": {"v": {"enum": [1]}, "n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}},
                "required": ["v", "n"],
                "additionalProperties": False,
            }
        },
    },
)
keyword("texts outside ASCII in `enum`", "Zurich", {"enum": ["Zürich", "東京", '🦊 "fox"']})
keyword("names and descriptions full of grammar", {"a": 1}, {
    "type": "object", "description": '"] root ::= "x" #\n\\ %json {',
    "properties": {'a"] | root\n': {"enum": [1, 2], "description": "\\\"}]"}},
    "required": ['a"] | root\n'], "additionalProperties": False,
})  # fmt: skip


def external_reference(server: Server) -> Verdict:
    value = record(a={"$ref": "http://127.0.0.1:9/other.json"})
    return judged(
        completion(server, '{"a": 1}\n' * 6, 24, **schema(value)[server.name]), lambda text: (False, quoted(text))
    )


row("`$ref` to another host (it has to be refused: nobody has the schema)")(external_reference)


@row("a schema that nothing satisfies")
def unsatisfiable(server):
    value = {"allOf": [{"type": "string", "minLength": 5}, {"type": "string", "maxLength": 2}]}
    return judged(
        completion(server, '"abc"\n' * 4, 24, **schema(value)[server.name]), lambda text: (False, quoted(text))
    )


@row("`response_format` of a chat, `strict: true`")
def strict_format(server):
    value = record(city={"enum": ["Paris", "Oslo"]}, days={"type": "integer", "minimum": 3, "maximum": 9})
    if server.name == M:
        fields = schema(value)[M]
    else:
        named = {"name": "trip", "strict": True, "schema": value}
        fields = {"response_format": {"type": "json_schema", "json_schema": named}}
    return judged(chat(server, 'Write only: {"city": "Rome", "days": 1}', **fields), valid(value))


@row("the same through `/v1/responses`", http=True)
def responses_format(server):
    value = record(city={"enum": ["Paris", "Oslo"]}, days={"type": "integer", "minimum": 3, "maximum": 9})
    body = {
        "input": 'Write only: {"city": "Rome", "days": 1}',
        "max_output_tokens": 64,
        "temperature": 0,
        "text": {"format": {"type": "json_schema", "name": "trip", "strict": True, "schema": value}},
    }
    exchange = server.ask("/v1/responses", body)
    if verdict := unanswered(exchange):
        return verdict
    pieces = [piece for item in exchange.json().get("output", []) for piece in item.get("content") or []]
    holds, note = is_valid(value, "".join(piece.get("text", "") for piece in pieces))
    return Verdict(WORKS if holds else BROKEN, note)


# --- hostile and malformed -------------------------------------------------------------------------------------------

part("Hostile grammars, patterns, schemas (refusing and keeping are both well)")

DEEP = "(" * 20_000 + '"a"' + ")" * 20_000
REPEATED = '((("a"{1,1000}){1,1000}){1,1000}){1,1000}'
hostile("20,000 nested parentheses", grammar(f"root ::= {DEEP}", f"start: {DEEP}"))
hostile(
    "repetitions of repetitions, 1000 to the fourth",
    grammar(f"root ::= {REPEATED}", f"start: {REPEATED}"),
    matches("a+"),
)
hostile("left recursion", grammar('root ::= root "a" | "a"', 'start: start "a" | "a"'), matches("a+"))
hostile(
    "a rule of itself alone",
    grammar("root ::= a\na ::= b\nb ::= a", "start: a\na: b\nb: a"),
    lambda text: (False, quoted(text)),
)
hostile("repeated nothing", grammar('root ::= ("" | ""*)* "x"', 'start: ("" | ""*)* "x"'), matches("x"))
NULLABLE = '("a"? "a"? "a"? "a"? "a"? "a"? "a"? "a"?)'
hostile(
    "3,200 optional letters in a row",
    grammar(f'root ::= {NULLABLE}{{400}} "b"', f'start: {NULLABLE}{{400}} "b"'),
    matches("a*b?"),
)
TRIPLE = "((x{1000}){1000}){1000}"
hostile(
    "a pattern of a thousand thousand thousand",
    regex(TRIPLE),
    {A: matches("x*"), L: matches('"?x*"?'), M: matches("x*")},
)
NESTED = "(.*.*.*.*.*.*.*.*){50}z"
hostile("a pattern that makes backtracking explode", regex(NESTED), {A: anything, L: anything, M: anything})
WORDS = "|".join(f"w{number:05}" for number in range(20_000))
hostile(
    "a pattern of 20,000 words",
    regex(f"({WORDS})"),
    {A: matches("w[0-9]{5}"), L: json_matches("w[0-9]{5}"), M: matches("w[0-9]{5}")},
    16,
)


def nested_schema(depth: int) -> dict:
    value: dict = {"type": "integer"}
    for _ in range(depth):
        value = {"type": "array", "items": value}
    return value


DOUBLED = {
    f"d{level}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{level + 1}"}] * 2, "minItems": 2}
    for level in range(30)
}
hostile("a schema nested 60 deep", schema(nested_schema(60)), matches(r"[\[\s].*"))
hostile("a schema nested 400 deep", schema(nested_schema(400)), matches(r"[\[\s].*"))
hostile("`$ref` to itself", schema({"$ref": "#"}), lambda text: (False, quoted(text)))
hostile(
    "30 definitions, each twice the next",
    schema({"$ref": "#/$defs/d0", "$defs": {**DOUBLED, "d30": {"const": 1}}}),
    matches(r"[\[\s].*"),
)
hostile(
    "`minItems` of a million",
    schema({"type": "array", "items": {"const": 1}, "minItems": 1_000_000}),
    matches(r"[\[\s1,].*"),
)
hostile("`maxLength` of a thousand million", schema({"type": "string", "maxLength": 1_000_000_000}), matches('".*'))
hostile(
    "`enum` of 20,000 texts",
    schema({"enum": [f"value {number:05}" for number in range(20_000)]}),
    matches('"value [0-9]{5}"'),
    24,
)

part("Malformed constraints (they have to be refused)")

malformed("a grammar with an unknown rule", grammar('root ::= "a" nowhere', 'start: "a" nowhere'), "nowhere")
malformed("a grammar with an open bracket", grammar('root ::= "a" (\nb ::= "c"', 'start: "a" (\nb: "c"'))
malformed("a grammar without a start", grammar('other ::= "a"', 'other: "a"'), "root", "start")
malformed("a pattern with an open bracket", regex("(ab"), "(ab", "regex", "pattern", "1:")
malformed("a pattern with a look-ahead", regex("(?=ab)[a-z]+"), "look")
malformed("a pattern with a back-reference", regex(r"(a|b)\1"), "backreference")
malformed("a schema of an unknown `type`", schema({"type": "strng"}), "type")
malformed(
    "a schema with `required` that is no list",
    schema({"type": "object", "properties": {"a": {"type": "null"}}, "required": "a"}),
    "required",
)
malformed(
    "a schema with `$ref` to nothing",
    schema({"type": "array", "items": {"$ref": "#/$defs/none"}, "minItems": 1}),
    "none",
)
malformed(
    "a schema that is a number",
    {A: {"json_schema": 7}, L: {"json_schema": 7}, M: {"grammar_type": "json_schema", "grammar": "7"}},
    "json_schema",
)


@row("a constraint's name misspelt (`json_shema`)")
def misspelt(server):
    fields = {"grammer_type": "regex", "grammer": "[0-9]{3}"} if server.name == M else {"json_shema": NUMBER}
    return judged(completion(server, "aaaa", 8, **fields), lambda text: (False, quoted(text)))


@row("another server's words (vLLM's `structured_outputs`)", http=True)
def other_words(server):
    exchange = completion(server, "abc abc abc ", 8, structured_outputs={"regex": "[0-9]{3}"})
    return judged(exchange, matches("[0-9]{3}"))


part("While others wait")


@row("a free request beside a grammar of repetitions of repetitions")
def neighbour(server):
    hard = grammar(f"root ::= {REPEATED}", f"start: {REPEATED}")[server.name]
    path = "/completion" if server.name == M else "/v1/completions"
    body = json.dumps({"prompt": "aaaa", "max_tokens": 16, **hard}).encode()
    other = threading.Thread(target=server.send, args=("POST", path, body, 30, server.headers()))
    other.start()
    time.sleep(0.2)
    exchange = completion(server, "The sea is", 8)
    other.join()
    verdict = judged(exchange, anything)
    verdict.note = f"{exchange.seconds:.1f} s, {verdict.note}"
    return after(server, verdict)


# --- what comes back -------------------------------------------------------------------------------------------------

part("What comes back")

LIST = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 30}, "minItems": 1}


def ended(server: Server, exchange: Exchange, value: Any) -> Verdict:
    """Whether a document is whole, and if not whether the reply says so."""
    if verdict := unanswered(exchange):
        return verdict
    holds, note = is_valid(value, first_text(exchange))
    says = f"finish_reason `{finish(exchange)}`"
    if checks := re.findall(r'"(?:status|all_satisfied|verdict)":\s*("?\w+"?)', exchange.reply):
        says += f", validation {checks[0]}"
    if holds:
        return Verdict(WORKS, f"whole within max_tokens, {says}: {note}")
    return Verdict(CUT_OFF if finish(exchange) == "length" else BROKEN, f"{says}: {note}")


@row("a list that would go on, `max_tokens` 24: is it closed?")
def closes_in_budget(server):
    prompt = json.dumps([f"the number {number}" for number in range(40)])[:-1] + ", "
    return ended(
        server,
        completion(
            server, "Here is a list:\n" + prompt + "\nHere is the list again:\n", 24, **schema(LIST)[server.name]
        ),
        LIST,
    )


@row("a document that cannot fit, `max_tokens` 4: is it said?")
def says_truncated(server):
    return ended(server, completion(server, '{"word": "abc"}\n' * 4, 4, **schema(WORD)[server.name]), WORD)


@row("whitespace that the model is pushed to (`logit_bias` +50 on blanks and line breaks)")
def whitespace(server):
    fields = {**schema(NUMBER)[server.name], "logit_bias": bias(server, [" ", "\n", "  ", "\n\n", "\t"], 50.0)}
    exchange = completion(server, '{"a": 100}\n' * 4, 300, **fields)
    verdict = judged(exchange, valid(NUMBER))
    blanks = sum(char.isspace() for char in first_text(exchange))
    verdict.note = f"{blanks} blanks in {len(first_text(exchange))} characters; {verdict.note}"
    return verdict


@row("`stop` that begins and ends inside tokens")
def stop_across_tokens(server):
    field = "stop_seqs" if server.name == M else "stop"
    exchange = completion(server, "one two three four five\n" * 8 + "one two", 16, **{field: ["ee fo"]})
    return judged(exchange, matches(" thr"))


@row("`n: 3` under a schema, temperature 1")
def three_choices(server):
    value = record(word={"type": "string", "pattern": "^[a-z]{4,8}$"})
    field = "n_choices" if server.name == M else "n"
    exchange = completion(
        server, "A word as JSON: ", 32, **schema(value)[server.name], **{field: 3, "temperature": 1.0}
    )
    if verdict := unanswered(exchange):
        return verdict
    texts = [text_of(choice) for choice in choices(exchange)]
    kept = [text for text in texts if is_valid(value, text)[0]]
    note = f"{len(kept)} of {len(texts)} choices valid: {quoted(', '.join(texts), 100)}"
    return Verdict(WORKS if len(kept) == len(texts) == 3 else BROKEN, note)


@row("`seed`: the same again, another otherwise, temperature 1")
def seeds(server):
    if server.name == M:
        return Verdict(CANNOT, "the bindings' requests have no `seed`; the Runner has one")
    texts = []
    for seed in (7, 7, 8):
        exchange = completion(server, "Once upon a time", 24, temperature=1.0, seed=seed)
        if verdict := unanswered(exchange):
            return verdict
        texts.append(first_text(exchange))
    same, differs = texts[0] == texts[1], texts[0] != texts[2]
    return Verdict(
        WORKS if same and differs else BROKEN, f"again {'the same' if same else 'another'}: {quoted(texts[0], 40)}"
    )


@row("`logprobs` under a constraint: numbers that JSON has, none of them minus infinity")
def log_probabilities(server):
    if server.name == M:
        exchange = chat(server, "Say red.", 8, **COLOUR[M], logprobs=True, top_logprobs=5)
    else:
        exchange = completion(server, "red red red ", 8, **COLOUR[server.name], logprobs=5)
    if verdict := unanswered(exchange):
        return verdict

    def refuse(name: str):
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(exchange.reply, parse_constant=refuse)
    except ValueError as error:
        return Verdict(BROKEN, str(error))
    found = value["choices"][0].get("logprobs")
    numbers = [float(number) for number in re.findall(r":\s*(-\d[\d.e+-]*)", json.dumps(found))]
    if not found or not numbers:
        return Verdict(BROKEN, f"no log-probabilities: {json.dumps(found)[:80]}")
    lowest = min(numbers)
    return Verdict(BROKEN if lowest < -1e30 else WORKS, f"{len(numbers)} numbers, the lowest {lowest:.4g}")


@row("a stream with its usage (`stream_options`)", http=True)
def stream_usage(server):
    body = {"prompt": "The sea is", "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    exchange = server.ask("/v1/completions", body)
    if verdict := unanswered(exchange):
        return verdict
    events = [line[6:] for line in exchange.reply.splitlines() if line.startswith("data: ")]
    usages = [json.loads(event).get("usage") for event in events if event != "[DONE]"]
    usages = [usage for usage in usages if usage]
    done = events[-1:] == ["[DONE]"]
    return Verdict(WORKS if usages and done else BROKEN, f"{len(events)} events, usage {json.dumps(usages[-1:])[:90]}")


# --- tools, tags, holes, code ----------------------------------------------------------------------------------------

part("Tools, tags, holes, code")

WEATHER = record(city={"enum": ["Paris", "Oslo"]}, unit={"enum": ["celsius", "kelvin"]})
CLOCK = record(zone={"type": "string", "pattern": "^[A-Z]{3}$"})
SCHEMAS = {"weather": WEATHER, "clock": CLOCK}


def tools(server: Server, text: str, choice: Any, schemas: dict[str, Any] = SCHEMAS, **fields: Any) -> Exchange:
    listed = [
        {"type": "function", "function": {"name": name, "description": f"Ask the {name}.", "parameters": value}}
        for name, value in schemas.items()
    ]
    if server.name == M:
        listed_texts = [json.dumps(tool) for tool in listed]
        return chat(server, text, 128, tool_schemas=listed_texts, tool_choice=choice, **fields)
    return chat(server, text, 128, tools=listed, tool_choice=choice, **fields)


def calls_hold(exchange: Exchange, must: tuple[str, ...], schemas: dict[str, Any] = SCHEMAS) -> Verdict:
    """Whether what came back are calls of known functions with valid arguments; `must` are the ones that may be."""
    if verdict := unanswered(exchange):
        return verdict
    message = choices(exchange)[0].get("message", {})
    calls = message.get("tool_calls") or []
    shown = [f"{call['function']['name']}({call['function']['arguments']})" for call in calls]
    if not calls:
        note = f"no call, {finish(exchange)}: {quoted(message.get('content') or '')}"
        return Verdict(CUT_OFF if must and finish(exchange) == "length" else BROKEN if must else WORKS, note)
    for call in calls:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        if name not in schemas or (must and name not in must):
            return Verdict(BROKEN, f"a call of `{name}`: {shown}")
        holds, note = is_valid(schemas[name], arguments)
        if not holds:
            return Verdict(CUT_OFF if finish(exchange) == "length" else BROKEN, f"arguments of `{name}`: {note}")
    return Verdict(WORKS, quoted(", ".join(shown), 100))


ASKED = "What is the weather in Berlin, in fahrenheit? Call the weather function."


@row("`tool_choice: auto`: prose, or calls that are valid")
def tools_auto(server):
    return calls_hold(tools(server, ASKED, "Auto" if server.name == M else "auto"), ())


@row("`tool_choice: required`")
def tools_required(server):
    if server.name == M:
        return Verdict(CANNOT, "the bindings' `ToolChoice` has `NoTools` and `Auto`")
    return calls_hold(tools(server, ASKED, "required"), tuple(SCHEMAS))


@row("`tool_choice` of one function")
def tools_named(server):
    if server.name == M:
        return Verdict(CANNOT, "the bindings' `ToolChoice` has `NoTools` and `Auto`")
    return calls_hold(tools(server, ASKED, {"type": "function", "function": {"name": "clock"}}), ("clock",))


@row("`tool_choice: required` + a pattern that arguments must not match")
def tools_with_more(server):
    if server.name == M:
        return Verdict(CANNOT, "no `required`")
    more = {"constraint_ir": {"forbidden_text": [{"text": "Paris"}]}} if server.name == A else {}
    if server.name == L:
        more = {"grammar": avoiding("Paris")}
    exchange = tools(server, ASKED, {"type": "function", "function": {"name": "weather"}}, **more)
    verdict = calls_hold(exchange, ("weather",))
    return Verdict(BROKEN, verdict.note) if verdict.kind == WORKS and "Paris" in verdict.note else verdict


@row("128 tools, `required`")
def many_tools(server):
    many = {f"tool_{number:03}": record(value={"enum": [number, f"v{number}"]}) for number in range(128)}
    if server.name == M:
        exchange = tools(server, "Call tool_077.", "Auto", many)
    else:
        exchange = tools(server, "Call tool_077.", "required", many)
    verdict = calls_hold(exchange, () if server.name == M else tuple(many), many)
    verdict.note = f"{'`Auto`, ' if server.name == M else ''}{exchange.seconds:.1f} s, {verdict.note}"
    return verdict


TAGGED = 'Call: <weather>{"city": "Rome", "unit": "celsius"}</weather>\n' * 5 + "Call: "
TAG_GRAMMAR = r"""root ::= [^<]{0,40} "<weather>{\"city\": \"" ("Paris" | "Oslo") "\", \"unit\": \"" ("celsius" | "kelvin") "\"}</weather>" """
TAG_LARK = 'start: /[^<]{0,40}/ "<weather>" object "</weather>"\nobject: %json ' + json.dumps(WEATHER)


def tags_hold(text: str) -> tuple[bool, str]:
    """Each `<weather>` is closed and holds what the schema allows, and there is one."""
    found = re.findall(r"<weather>(.*?)</weather>", text, re.DOTALL)
    holds = bool(found) and len(found) == text.count("<weather>") and all(is_valid(WEATHER, one)[0] for one in found)
    return holds, quoted(text, 100)


@row("`structural_tag`: a schema between tags, prose around", http=True)
def structural_tag(server):
    structure = {"begin": "<weather>", "schema": WEATHER, "end": "</weather>"}
    tag = {"type": "structural_tag", "structures": [structure], "triggers": ["<weather>"]}
    if server.name == A:
        return judged(completion(server, TAGGED, 48, response_format=tag), tags_hold)
    return judged(chat(server, TAGGED, 48, response_format=tag), tags_hold)


bound("the same, as a grammar that the client writes", TAGGED, grammar(TAG_GRAMMAR, TAG_LARK), tags_hold, 64)


@row("fill in the middle (SmolLM2 has no tokens for it)")
def fill_in_the_middle(server):
    prefix, suffix = "def add(a, b):\n    return ", "\n\n# END-4711\n"
    if server.name == L:
        exchange = server.ask(
            "/infill", {"input_prefix": prefix, "input_suffix": suffix, "n_predict": 16, "temperature": 0}
        )
        return unanswered(exchange) or Verdict(WORKS, quoted((exchange.json() or {}).get("content", "")))
    exchange = completion(server, prefix, 16, suffix=suffix)
    return judged(exchange, lambda text: ("END-4711" not in text, f"the suffix is pasted behind: {quoted(text, 100)}"))


PYTHON = {
    "constraints": [
        {"name": "language", "kind": "syntactic", "source": "user_defined",
         "rule": {"type": "language", "language": "python", "granularity": "file"}},
        {"name": "imports", "kind": "architectural", "source": "user_defined",
         "rule": {"type": "imports", "allow": ["json", "math"]}},
    ]
}  # fmt: skip


def python_holds(text: str) -> tuple[bool, str]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return False, f"{error.msg}: {quoted(text)}"
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return bool(text.strip()) and imported <= {"json", "math"}, f"imports {sorted(imported)}: {quoted(text)}"


bound(
    "a Python file that parses and imports only `json` and `math`",
    "import os\nimport subprocess\n\nimport os\nimport subprocess\n\n",
    {A: {"constraints": PYTHON}},
    python_holds,
    64,
    {L: "no field; GBNF has no indentation", M: "no field; Lark has no indentation"},
)
bound(
    "a type mined from source in the request (`context`)",
    '{"x": "one", "label": "c"}\n' * 6,
    {A: {"context": {"language": "typescript", "source": "interface Point { x: number; label: 'a' | 'b' }"}}},
    valid(record(x={"type": "number"}, label={"enum": ["a", "b"]})),
    48,
    {L: "no such field", M: "no such field"},
)

# --- bad requests ----------------------------------------------------------------------------------------------------

part("Bad requests (they have to be refused)")


def bad(title: str, fields: Fields, own: Fields | None = None) -> None:
    """A row of a request with a value that cannot be meant; `own` are the bindings' words for it."""

    def run(server: Server) -> Verdict:
        if server.name == M and own is None:
            return Verdict(UNTRIED, "the bindings have no such request")
        asked = {"prompt": "The sea is", "max_tokens": 4, **(own if server.name == M else fields)}
        asked = {name: value for name, value in asked.items() if value is not None}
        exchange = server.ask("/completion" if server.name == M else "/v1/completions", asked)
        verdict = judged(exchange, lambda text: (False, quoted(text)))
        if verdict.kind == CUT_OFF:
            verdict.kind = BROKEN
        return after(server, verdict)

    ROWS.append(Row(PART[0], title, run))


def bad_body(title: str, body: bytes) -> None:
    @row(title, http=True)
    def run(server: Server) -> Verdict:
        exchange = server.ask("/v1/completions", body)
        return after(server, judged(exchange, lambda text: (False, quoted(text))))


bad('`max_tokens: "many"`', {"max_tokens": "many"}, {"max_tokens": "many"})
bad("`max_tokens: -5`", {"max_tokens": -5}, {"max_tokens": -5})
bad('`temperature: "hot"`', {"temperature": "hot"}, {"temperature": "hot"})
bad("`temperature: -3`", {"temperature": -3}, {"temperature": -3.0})
bad("`top_p: 7`", {"top_p": 7}, {"top_p": 7.0})
bad("`n: 100000`", {"n": 100_000}, {"n_choices": 100_000})
bad("`logit_bias` of a token that does not exist", {"logit_bias": {"99999999": 5}}, {"logit_bias": {"99999999": 5.0}})
bad("`prompt` left out", {"prompt": None}, {"prompt": None})
bad("`prompt` of 20,000 words", {"prompt": "word " * 20_000}, {"prompt": "word " * 20_000})
bad("`model` that is not there", {"model": "gpt-4o"})
bad("a field that nobody has (`tempersture`)", {"tempersture": 0}, {"tempersture": 0})
bad_body("a body that is no JSON", b'{"prompt": "a"')
bad_body("a body that is no UTF-8", b'{"prompt": "\xff\xfe", "max_tokens": 2}')
bad_body("a body of 100,000 open brackets", b'{"prompt": "a", "max_tokens": 2, "stop": ' + b"[" * 100_000)

# --- operating -------------------------------------------------------------------------------------------------------

part("Operating")


@row("without the API key", http=True)
def without_key(server):
    exchange = server.ask("/v1/completions", {"prompt": "a", "max_tokens": 2}, headers={})
    verdict = unanswered(exchange)
    good = verdict is not None and exchange.status == 401
    return Verdict(WORKS, f"refused: {verdict.note}") if good else verdict or Verdict(BROKEN, "answered")


FIGURES = r"^(\w*(?:grammar|mask|constraint|compil|forced|dead_end|backtrack)\w*)"


@row("`GET /metrics`, and figures about constraints in it", http=True)
def metrics(server):
    exchange = server.ask("/metrics")
    if verdict := unanswered(exchange):
        return verdict
    names_of_all = set(re.findall(r"^# TYPE (\S+)", exchange.reply, re.MULTILINE))
    own = sorted(name for name in names_of_all if re.match(FIGURES, name))
    note = f"{len(names_of_all)} figures, {len(own)} about constraints: {', '.join(own)}"
    return Verdict(WORKS if names_of_all else BROKEN, note)


@row("text to ids and back")
def tokenize(server):
    text = "def add(a, b): # Zürich 東京"
    ids = tokens(server, text)
    exchange = server.ask("/detokenize", {"tokens": ids})
    if verdict := unanswered(exchange):
        return verdict
    value = exchange.json()
    back = value.get("content") or value.get("prompt") or value.get("text")
    return Verdict(WORKS if back == text else BROKEN, f"{len(ids)} ids, back: {quoted(back or '')}")


def endpoint(title: str, path: str, body: Any, holds: Callable[[Any], bool]) -> None:
    """A row of a path that is ananke's own; the others are asked all the same."""

    @row(title, http=True)
    def run(server: Server) -> Verdict:
        exchange = server.ask(path, body)
        verdict = unanswered(exchange)
        return verdict or Verdict(WORKS if holds(exchange.json()) else BROKEN, exchange.reply[:100])


SOURCE = {"source": "interface Point { x: number; label: 'a' | 'b' }", "file": "point.ts"}
INTEGER = {"version": 1, "json_schema": {"type": "integer"}}
endpoint(
    "constraints from source", "/v1/constraints/extract", SOURCE,
    lambda value: any(one["name"] == "Point" for one in value["constraints"]),
)  # fmt: skip
endpoint(
    "constraints compiled and judged without generating", "/v1/constraints/compile", {"constraints": PYTHON},
    lambda value: value["satisfiability"] in ("satisfiable", "unknown") and bool(value["ir"]),
)  # fmt: skip
endpoint(
    "finished texts judged", "/v1/constraints/validate", {"texts": ["12", "x"], "ir": INTEGER},
    lambda value: [result["all_satisfied"] for result in value["results"]] == [True, False],
)  # fmt: skip
endpoint("a description of itself (`/openapi.json`)", "/openapi.json", None, lambda value: "paths" in value)


@row("a record of what made a reply, and the reply again from it", http=True)
def provenance(server):
    prompt = "The sea is"
    first = completion(server, prompt, 16, temperature=1.0, seed=11)
    name = (first.json() or {}).get("id", "none")
    exchange = server.ask(f"/v1/provenance/{name}")
    if verdict := unanswered(exchange):
        return verdict
    folder = pathlib.Path(server.folder.name)
    (folder / "record.json").write_text(exchange.reply)
    (folder / "prompt.txt").write_text(prompt)
    files = [folder / "record.json", "--prompt", folder / "prompt.txt"]
    command = [server.cli, "replay", *files, "--model", server.model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    note = f"`ananke replay`: {(done.stdout + done.stderr).strip()}"
    return Verdict(WORKS if done.stdout.strip() == "identical" else BROKEN, note)


@row("an audit log of all of the above, checked", http=True)
def audit(server):
    if server.name == L:
        return Verdict(CANNOT, "no such option")
    folder = pathlib.Path(server.folder.name)
    command = [server.cli, "audit", "verify", folder / "audit", "--key", folder / "audit.key"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    note = f"`ananke audit verify`: status {done.returncode}, {(done.stdout + done.stderr).strip()}"
    return Verdict(WORKS if done.returncode == 0 else BROKEN, note)


LONG = {A: {"structured_outputs": {"regex": "[a-z ]{8000}"}}, L: {"ignore_eos": True}}


@row("a client that leaves: is the work given up?", http=True)
def cancellation(server):
    body = {"prompt": "once upon a time ", "max_tokens": 1500, "stream": True, **LONG[server.name]}
    connection, reply = server.post_stream("/v1/completions", body)
    first = reply.readline()
    busy = is_busy(server)
    connection.sock.close() if connection.sock else reply.close()
    reply.close()
    left = time.monotonic()
    while time.monotonic() < left + 5:
        if not is_busy(server):
            return Verdict(WORKS if busy else FAILED, f"idle {time.monotonic() - left:.2f} s after the client left")
        time.sleep(0.05)
    return Verdict(BROKEN, f"still at work after 5 s; it began {first[:40]!r}")


def is_busy(server: Server) -> bool:
    path = "/health" if server.name == A else "/slots"
    value = json.loads(server.send("GET", path, None, 30, server.headers())[1])
    return bool(value["running"]) if server.name == A else any(slot["is_processing"] for slot in value)


@row("SIGTERM in the middle of a stream of 200 tokens: is it finished?", http=True)
def drain(server):
    body = {"prompt": "once upon a time ", "max_tokens": 200, "stream": True, **LONG[server.name]}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        connection, reply = server.post_stream("/v1/completions", body)
        reply.readline()
        rest = pool.submit(reply.read)
        server.process.send_signal(signal.SIGTERM)
        try:
            text = rest.result(60).decode(errors="replace")
            broke = ""
        except Exception as error:
            text, broke = "", f"; the stream broke: {type(error).__name__}"
        connection.close()
    try:
        code: Any = server.process.wait(30)
    except subprocess.TimeoutExpired:
        code = "still running"
    finished = "[DONE]" in text and '"finish_reason":"length"' in text.replace(" ", "")
    server.stop()
    server.start()
    note = f"{text.count('data: ')} further events, exit status {code}{broke}"
    return Verdict(WORKS if finished else BROKEN, note)
