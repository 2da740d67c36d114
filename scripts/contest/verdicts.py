"""What a server made of a request, judged by code that shares nothing with any of them.

A judge reads the text of a reply and says whether what was asked of it holds. `judged` puts that beside how the request
itself ended: a refusal is none of the server's faults, and a text that breaks what was asked is, whatever its quality.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
from servers import DIED, HUNG, Exchange

WORKS = "works"
REFUSED = "refused"
BROKEN = "accepted, not kept"
CUT_OFF = "cut off"
FAILED = "failed"
CANNOT = "cannot be asked"
UNTRIED = "not tried"
NOTE_CHARACTERS = 150


@dataclasses.dataclass
class Verdict:
    """One cell of the table."""

    kind: str
    note: str = ""

    def __str__(self) -> str:
        line = " ".join(self.note.split())
        line = line if len(line) <= NOTE_CHARACTERS else f"{line[:NOTE_CHARACTERS]}..."
        return f"**{self.kind}**" + (f": {line}" if line else "")


# A judge: the text of a reply to whether it holds (None: not yet, a longer text could), and a few words about it.
Judge = Callable[[str], tuple[bool | None, str]]


def quoted(text: str, length: int = 70) -> str:
    """The beginning of a text, on one line."""
    shown = text[:length].replace("\n", "\\n").replace("`", "'")
    return f"`{shown}`" + ("..." if len(text) > length else "")


def choices(exchange: Exchange) -> list[dict]:
    value = exchange.json()
    return value.get("choices", []) if isinstance(value, dict) else []


def text_of(choice: dict) -> str:
    """The text of a choice, of a completion as of a chat."""
    if "text" in choice:
        return choice["text"] or ""
    return (choice.get("message") or {}).get("content") or ""


def first_text(exchange: Exchange) -> str:
    found = choices(exchange)
    return text_of(found[0]) if found else ""


def finish(exchange: Exchange) -> str:
    found = choices(exchange)
    return str(found[0].get("finish_reason")) if found else ""


def unanswered(exchange: Exchange) -> Verdict | None:
    """The verdict on a request that got no answer of status 200; None where it got one."""
    if exchange.outcome in (DIED, HUNG):
        return Verdict(exchange.outcome, exchange.reply)
    if exchange.status is None:
        return Verdict(FAILED, f"connection closed without a reply: {exchange.reply}")
    if exchange.status != 200:
        kind = REFUSED if exchange.status < 500 or exchange.status == 501 else FAILED
        return Verdict(kind, f"{exchange.status} {exchange.error()}")
    return None


def judged(exchange: Exchange, judge: Judge) -> Verdict:
    """How a request ended, and whether what was asked of its text holds."""
    verdict = unanswered(exchange)
    if verdict:
        return verdict
    if not choices(exchange):
        return Verdict(FAILED, f"200 without an answer: {exchange.reply[:100]}")
    text = first_text(exchange)
    holds, note = judge(text)
    if holds:
        return Verdict(WORKS, note)
    if holds is None and finish(exchange) == "length":
        return Verdict(CUT_OFF, f"finish_reason `length`; {note}")
    return Verdict(BROKEN, note)


def is_valid(schema: Any, text: str) -> tuple[bool | None, str]:
    """Whether a text is one JSON document that a schema of draft 2020-12 allows; None where it may be the beginning."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        begins = error.msg.startswith("Unterminated string") or any(
            word.startswith(rest) for word in ("true", "false", "null", "-")
        )
        return None if begins else False, f"no JSON ({error}): {quoted(text)}"
    try:
        jsonschema.Draft202012Validator(schema).validate(value)
    except jsonschema.ValidationError as error:
        return False, f"{quoted(text)}: {error.message[:80]}"
    return True, quoted(text)


def valid(schema: Any) -> Judge:
    return lambda text: is_valid(schema, text)


def matches(pattern: str) -> Judge:
    """The whole text matches."""
    return lambda text: (re.fullmatch(pattern, text, re.DOTALL) is not None, quoted(text))


def json_matches(pattern: str) -> Judge:
    """The whole text is a JSON string whose value matches: how a pattern is asked for where there is only a schema."""

    def judge(text: str) -> tuple[bool, str]:
        try:
            value = json.loads(text)
        except ValueError:
            return False, f"no JSON: {quoted(text)}"
        return isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) is not None, quoted(text)

    return judge


def without(*forbidden: str) -> Judge:
    """None of the texts is in it, and it is not empty."""

    def judge(text: str) -> tuple[bool, str]:
        return bool(text.strip()) and not any(word in text for word in forbidden), quoted(text)

    return judge


def both(*judges: Judge) -> Judge:
    """The first judge that a text fails, or the note of the last."""

    def judge(text: str) -> tuple[bool, str]:
        note = ""
        for one in judges:
            holds, note = one(text)
            if not holds:
                return holds, note
        return True, note

    return judge


def anything(text: str) -> tuple[bool, str]:
    """Any answer: where it counts only that there is one."""
    return True, quoted(text)


def never(text: str) -> tuple[bool, str]:
    """No answer is right: the request had to be refused."""
    return False, quoted(text)
