"""What a call of a client is to come to, and what it came to.

A suite is the calls of one client. A call is a function that does to a target what a user would do, asserts what has to
be true of the answer and may return a few words about it. What it is to come to stands beside it: `works`, or
`refused STATUS CODE`.
"""

import dataclasses
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import jsonschema
import openai

WORKS = "works"
SECONDS_TO_SETTLE = 60


@dataclasses.dataclass(frozen=True)
class Target:
    """The server under test, and who may ask it."""

    url: str
    model: str
    # By name: `main` may everything, `metrics` may not generate, `slow` has few requests a minute.
    keys: dict[str, str]
    client: openai.OpenAI

    def settle(self) -> None:
        """Waits until nothing is generated any more.

        # Raises
        AssertionError where something still is after a minute.
        """
        deadline = time.monotonic() + SECONDS_TO_SETTLE
        while True:
            with urllib.request.urlopen(f"{self.url}/health", timeout=SECONDS_TO_SETTLE) as reply:
                health = json.load(reply)
            if not health["running"] and not health["waiting"] and health["blocks_free"] == health["blocks_total"]:
                return
            assert time.monotonic() < deadline, f"still busy: {health}"
            time.sleep(0.05)


Call = Callable[[Target], Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    client: str
    call: str
    expected: str
    outcome: str
    note: str

    @property
    def is_good(self) -> bool:
        return self.outcome == self.expected


class Refused(Exception):
    """An error reply, as a client without a library reads it."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        error = json.loads(body)["error"]
        self.status, self.code, self.message = status, error["code"], error["message"]


class Suite:
    """The calls of one client."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.calls: list[tuple[str, str, Call]] = []

    def works(self, name: str) -> Callable[[Call], Call]:
        """Registers a call that is to be answered, as the function asserts."""

        def register(function: Call) -> Call:
            self.calls.append((name, WORKS, function))
            return function

        return register

    def refused(self, name: str, expected: str, function: Call) -> None:
        """Registers a call that is to be refused with `STATUS CODE`."""
        self.calls.append((name, f"refused {expected}", function))

    def run(self, target: Target, word: str) -> list[Row]:
        """The rows of all calls with `word` in their name; each is told as it comes."""
        rows = []
        for name, expected, function in self.calls:
            if word in f"{self.client} {name}":
                rows.append(Row(self.client, name, expected, *outcome(function, target)))
                print(f"{rows[-1].outcome}: {self.client}, {name}", file=sys.stderr, flush=True)
        return rows


def outcome(function: Call, target: Target) -> tuple[str, str]:
    """What a call came to, and a note about it."""
    try:
        note = function(target)
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return f"refused {error.status_code} {error.code}", str(body.get("message", error.message))
    except Refused as error:
        return f"refused {error.status} {error.code}", error.message
    # Whatever else is raised is the finding: a wrong answer, a client that cannot read it, a fault of this script.
    except Exception as error:
        return f"fault {type(error).__name__}", str(error) or repr(error)
    return WORKS, "" if note is None else str(note)


def valid(schema: dict, text: str) -> Any:
    """The JSON value that `text` is, which `schema` must allow."""
    value = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


def cut(text: str, length: int) -> str:
    """A text on one line of a Markdown table, cut after `length` characters."""
    line = " ".join(text.split())
    line = line if len(line) <= length else f"{line[:length]}..."
    return line.replace("|", "\\|")
