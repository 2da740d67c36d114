"""Rows about tools, tags, holes and code."""

import ast
import json
import re
from typing import Any

from rows import (
    PYTHON,
    A,
    L,
    M,
    avoiding,
    bound,
    chat,
    completion,
    grammar,
    part,
    record,
    row,
)
from servers import Exchange, Server
from verdicts import (
    BROKEN,
    CANNOT,
    CUT_OFF,
    WORKS,
    Verdict,
    choices,
    finish,
    is_valid,
    judged,
    quoted,
    unanswered,
    valid,
)

part("Tools, tags, holes, code")

WEATHER = record(city={"enum": ["Paris", "Oslo"]}, unit={"enum": ["celsius", "kelvin"]})
CLOCK = record(zone={"type": "string", "pattern": "^[A-Z]{3}$"})
SCHEMAS = {"weather": WEATHER, "clock": CLOCK}


def tools(server: Server, text: str, choice: Any, schemas: dict[str, Any] = SCHEMAS, **fields: Any) -> Exchange:
    listed = [
        {"type": "function", "function": {"name": name, "description": f"Ask the {name}.", "parameters": value}}
        for name, value in schemas.items()
    ]
    if server.dialect == M:
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
            cut = holds is None and finish(exchange) == "length"
            return Verdict(CUT_OFF if cut else BROKEN, f"arguments of `{name}`: {note}")
    return Verdict(WORKS, quoted(", ".join(shown), 100))


ASKED = "What is the weather in Berlin, in fahrenheit? Call the weather function."


@row("`tool_choice: auto`: prose, or calls that are valid")
def tools_auto(server):
    return calls_hold(tools(server, ASKED, "Auto" if server.dialect == M else "auto"), ())


@row("`tool_choice: required`")
def tools_required(server):
    if server.dialect == M:
        return Verdict(CANNOT, "the bindings' `ToolChoice` has `NoTools` and `Auto`")
    return calls_hold(tools(server, ASKED, "required"), tuple(SCHEMAS))


@row("`tool_choice` of one function")
def tools_named(server):
    if server.dialect == M:
        return Verdict(CANNOT, "the bindings' `ToolChoice` has `NoTools` and `Auto`")
    return calls_hold(tools(server, ASKED, {"type": "function", "function": {"name": "clock"}}), ("clock",))


@row("`tool_choice: required` + a pattern that arguments must not match")
def tools_with_more(server):
    if server.dialect == M:
        return Verdict(CANNOT, "no `required`")
    more = {"constraint_ir": {"forbidden_text": [{"text": "Paris"}]}} if server.dialect == A else {}
    if server.dialect == L:
        more = {"grammar": avoiding("Paris")}
    exchange = tools(server, ASKED, {"type": "function", "function": {"name": "weather"}}, **more)
    verdict = calls_hold(exchange, ("weather",))
    return Verdict(BROKEN, verdict.note) if verdict.kind == WORKS and "Paris" in verdict.note else verdict


@row("32 tools, `required`")
def many_tools(server):
    if server.dialect == M:
        return Verdict(CANNOT, "no `required`")
    many = {f"tool_{number:02}": record(value={"enum": [number, f"v{number}"]}) for number in range(32)}
    exchange = tools(server, "Call tool_17.", "required", many)
    verdict = calls_hold(exchange, tuple(many), many)
    verdict.note = f"{exchange.seconds:.1f} s, {verdict.note}"
    return verdict


TAGGED = 'Call: <weather>{"city": "Rome", "unit": "celsius"}</weather>\n' * 5 + "Call:"
TAG_GRAMMAR = (
    r'root ::= [^<]{0,40} "<weather>{\"city\": \"" ("Paris" | "Oslo") '
    r'"\", \"unit\": \"" ("celsius" | "kelvin") "\"}</weather>"'
)
TAG_LARK = 'start: /[^<]{0,40}/ "<weather>" object "</weather>"\nobject: %json ' + json.dumps(WEATHER)


def tags_hold(text: str) -> tuple[bool, str]:
    """Each `<weather>` is closed and holds what the schema allows, and there is one."""
    found = re.findall(r"<weather>(.*?)</weather>", text, re.DOTALL)
    holds = bool(found) and len(found) == text.count("<weather>") and all(is_valid(WEATHER, one)[0] for one in found)
    return holds or (None if text.count("<weather>") == len(found) else False), quoted(text, 100)


@row("`structural_tag`: a schema between tags, prose around", http=True)
def structural_tag(server):
    structure = {"begin": "<weather>", "schema": WEATHER, "end": "</weather>"}
    tag = {"type": "structural_tag", "structures": [structure], "triggers": ["<weather>"]}
    if server.dialect == A:
        return judged(completion(server, TAGGED, 48, response_format=tag), tags_hold)
    return judged(chat(server, TAGGED, 48, response_format=tag), tags_hold)


bound("the same, as a grammar that the client writes", TAGGED, grammar(TAG_GRAMMAR, TAG_LARK), tags_hold, 64)


@row("fill in the middle (SmolLM2 has no tokens for it)")
def fill_in_the_middle(server):
    prefix, suffix = "def add(a, b):\n    return ", "\n\n# END-4711\n"
    if server.dialect == L:
        exchange = server.ask(
            "/infill", {"input_prefix": prefix, "input_suffix": suffix, "n_predict": 16, "temperature": 0}
        )
        return unanswered(exchange) or Verdict(WORKS, quoted((exchange.json() or {}).get("content", "")))
    exchange = completion(server, prefix, 16, suffix=suffix)
    return judged(exchange, lambda text: ("END-4711" not in text, f"the suffix is pasted behind: {quoted(text, 100)}"))


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
