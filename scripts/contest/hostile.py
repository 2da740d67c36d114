"""Rows about grammars, patterns and schemas that are hostile or malformed."""

import json
import re
import threading
import time

from rows import (
    NUMBER,
    PART,
    ROWS,
    A,
    Fields,
    L,
    M,
    Row,
    after,
    completion,
    grammar,
    part,
    regex,
    row,
    schema,
)
from servers import SECONDS_PER_REQUEST, Exchange, Server
from verdicts import (
    CANNOT,
    FAILED,
    REFUSED,
    UNTRIED,
    Judge,
    Verdict,
    anything,
    json_matches,
    judged,
    matches,
    never,
)


def hostile(
    title: str, asked: dict[str, Fields], judge: Judge | dict[str, Judge] = anything, max_tokens: int = 8
) -> None:
    """A row of one constraint that no server should suffer from: refusing it and keeping it are both well."""

    def run(server: Server) -> Verdict:
        if server.dialect not in asked:
            return Verdict(CANNOT)
        own = judge[server.dialect] if isinstance(judge, dict) else judge
        exchange = completion(server, "aaaa", max_tokens, **asked[server.dialect])
        verdict = judged(exchange, own)
        verdict.note = f"{exchange.seconds:.1f} s, {verdict.note}"
        return after(server, verdict)

    ROWS.append(Row(PART[0], title, run))


def names(exchange: Exchange, *places: str) -> str:
    """How a refusal names the place of the fault: one of the given texts, or a line, a column, a pointer."""
    error = exchange.error()
    found = [place for place in places if place in error]
    found += re.findall(
        r"line \d+|column \d+|\d+:\d+|(?:char|byte|offset|position|pos) \d+|#/[^\s:`]+|\d+\(\d+\)", error
    )
    return f"names {found[0]}" if found else "names no place"


def malformed(title: str, asked: dict[str, Fields], *places: str, judge: Judge = never):
    """A row of a constraint that is wrong: it has to be refused, and well with the place."""

    def run(server: Server) -> Verdict:
        if server.dialect not in asked:
            return Verdict(CANNOT)
        exchange = completion(server, "aaaa", 8, **asked[server.dialect])
        verdict = judged(exchange, judge)
        if verdict.kind in (REFUSED, FAILED):
            verdict.note = f"{names(exchange, *places)}: {verdict.note}"
        return after(server, verdict)

    ROWS.append(Row(PART[0], title, run))


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
    never,
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
for name, pattern in [("look-ahead", "(?=ab)[a-z]{4}"), ("back-reference", r"(ab|cd)\1")]:
    judges = {A: matches(pattern), L: json_matches(pattern), M: matches(pattern)}
    hostile(f"a pattern with a {name}", regex(pattern), judges)


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
hostile("`$ref` to itself", schema({"$ref": "#"}))
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
    fields = {"grammer_type": "regex", "grammer": "[0-9]{3}"} if server.dialect == M else {"json_shema": NUMBER}
    return judged(completion(server, "aaaa", 8, **fields), never)


@row("another server's words (vLLM's `structured_outputs`)", http=True)
def other_words(server):
    exchange = completion(server, "abc abc abc ", 8, structured_outputs={"regex": "[0-9]{3}"})
    return judged(exchange, matches("[0-9]{3}"))


part("While others wait")


@row("a free request beside a grammar of repetitions of repetitions")
def neighbour(server):
    if server.dialect == M:
        return Verdict(UNTRIED, "the bindings take one request at a time")
    hard = grammar(f"root ::= {REPEATED}", f"start: {REPEATED}")[server.dialect]
    path = "/completion" if server.dialect == M else "/v1/completions"
    body = json.dumps({"prompt": "aaaa", "max_tokens": 16, **hard}).encode()
    other = threading.Thread(target=server.send, args=("POST", path, body, SECONDS_PER_REQUEST, server.headers()))
    server.exchanges.append(Exchange(server.name, "POST", path, json.loads(body), reply="not waited for"))
    other.start()
    time.sleep(0.2)
    exchange = completion(server, "The sea is", 8)
    other.join()
    verdict = judged(exchange, anything)
    verdict.note = f"{exchange.seconds:.1f} s, {verdict.note}"
    return after(server, verdict)
