"""The rows of the table: what is asked of every server, in its own words, and what has to be true of the answer.

A row is a function from a server to a verdict; most are made by `bound`, which sends one completion with a constraint,
judges its text, and asks again without the constraint to see whether the free text would have held anyway. Prompts are
lines that break what is asked for, over and over, so that a model that goes on like them breaks it too.

Temperature is 0 and the seed is fixed, where a row does not say otherwise. What a server has no words for is not sent:
`cannot be asked`. mistral.rs is tried through its bindings, so what belongs to HTTP is `not tried` there.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from servers import Exchange, Server
from verdicts import (
    CANNOT,
    FAILED,
    UNTRIED,
    WORKS,
    Judge,
    Verdict,
    anything,
    first_text,
    judged,
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
    if server.dialect == M:
        return server.ask("/completion", {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0.0, **fields})
    body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "seed": 1, **fields}
    return server.ask("/v1/completions", body)


def chat(server: Server, text: str, max_tokens: int = 96, **fields: Any) -> Exchange:
    messages = [{"role": "user", "content": text}]
    if server.dialect == M:
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
    exchange = server.ask("/tokenize", {"text" if server.dialect == M else "content": text})
    exchange.helps = True
    return exchange.json()["tokens"]


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
        if server.dialect not in asked:
            return Verdict(CANNOT, (cannot or {}).get(server.dialect, ""))
        own = judge[server.dialect] if isinstance(judge, dict) else judge
        verdict = judged(completion(server, prompt, max_tokens, **asked[server.dialect]), own)
        if verdict.kind == WORKS and own is not anything:
            free = completion(server, prompt, max_tokens)
            free.helps = True
            if free.is_ok and own(first_text(free))[0]:
                verdict.note += " (the free text holds it too)"
        return verdict

    ROWS.append(Row(PART[0], title, run))


def after(server: Server, verdict: Verdict) -> Verdict:
    """A verdict, if the server answers a plain request behind it."""
    plain = completion(server, "The sea is", 4)
    plain.helps = True
    if not plain.is_ok:
        return Verdict(plain.outcome if plain.status is None else FAILED, f"on the next request, after: {verdict}")
    return verdict


# --- schemas ---------------------------------------------------------------------------------------------------------


def objects(**properties: Any) -> dict:
    """The schema of an object that may have these properties and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def record(**properties: Any) -> dict:
    """The schema of an object that has exactly these properties."""
    return {**objects(**properties), "required": list(properties)}


def listed(items: Any, **keywords: Any) -> dict:
    """The schema of a list."""
    return {"type": "array", "items": items, **keywords}


NUMBER = record(a={"type": "integer", "minimum": 100, "maximum": 999})
WORD = record(word={"type": "string", "minLength": 3, "maxLength": 20})

# --- constraints that several rows have ------------------------------------------------------------------------------

COLOUR = {
    **grammar('root ::= "red" | "green" | "blue"', 'start: "red" | "green" | "blue"'),
    A: {"structured_outputs": {"choice": ["red", "green", "blue"]}},
}
PYTHON = {
    "constraints": [
        {
            "name": "language",
            "kind": "syntactic",
            "source": "user_defined",
            "rule": {"type": "language", "language": "python", "granularity": "file"},
        },
        {
            "name": "imports",
            "kind": "architectural",
            "source": "user_defined",
            "rule": {"type": "imports", "allow": ["json", "math"]},
        },
    ]
}


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
