"""Rows about bad requests, and about operating a server."""

import concurrent.futures
import json
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from rows import (
    PART,
    PYTHON,
    ROWS,
    A,
    Fields,
    L,
    M,
    Row,
    after,
    completion,
    part,
    row,
    tokens,
)
from servers import Server
from verdicts import (
    BROKEN,
    CANNOT,
    FAILED,
    UNTRIED,
    WORKS,
    Verdict,
    judged,
    never,
    quoted,
    unanswered,
)

part("Bad requests (they have to be refused)")


def bad(title: str, fields: Fields, own: Fields | None = None) -> None:
    """A row of a request with a value that cannot be meant; `own` are the bindings' words for it."""

    def run(server: Server) -> Verdict:
        if server.dialect == M and own is None:
            return Verdict(UNTRIED, "the bindings have no such request")
        asked = {"prompt": "The sea is", "max_tokens": 4, **(own if server.dialect == M else fields)}
        asked = {name: value for name, value in asked.items() if value is not None}
        exchange = server.ask("/completion" if server.dialect == M else "/v1/completions", asked)
        verdict = judged(exchange, never)
        return after(server, verdict)

    ROWS.append(Row(PART[0], title, run))


def bad_body(title: str, body: bytes) -> None:
    @row(title, http=True)
    def run(server: Server) -> Verdict:
        exchange = server.ask("/v1/completions", body)
        return after(server, judged(exchange, never))


bad('`max_tokens: "many"`', {"max_tokens": "many"}, {"max_tokens": "many"})
bad("`max_tokens: -5`", {"max_tokens": -5}, {"max_tokens": -5})
bad('`temperature: "hot"`', {"temperature": "hot"}, {"temperature": "hot"})
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
    if server.dialect == L:
        return Verdict(CANNOT, "no such option")
    folder = pathlib.Path(server.folder.name)
    command = [server.cli, "audit", "verify", folder / "audit", "--key", folder / "audit.key"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    note = f"`ananke audit verify`: status {done.returncode}, {(done.stdout + done.stderr).strip()}"
    return Verdict(WORKS if done.returncode == 0 else BROKEN, note)


# Texts that go on: an end is not allowed before so many characters, or never.
LONG = {A: {"structured_outputs": {"regex": "[a-z ]{400,}"}}, L: {"ignore_eos": True}}


@row("a client that leaves: is the work given up?", http=True)
def cancellation(server):
    body = {"prompt": "once upon a time ", "max_tokens": 1500, "stream": True, **LONG[server.dialect]}
    connection, reply, exchange = server.post_stream("/v1/completions", body)
    exchange.reply = reply.readline().decode(errors="replace")
    if exchange.status != 200:
        return unanswered(exchange)
    busy = is_busy(server)
    reply.close()
    connection.close()
    left = time.monotonic()
    while time.monotonic() < left + 5:
        if not is_busy(server):
            return Verdict(WORKS if busy else FAILED, f"idle {time.monotonic() - left:.2f} s after the client left")
        time.sleep(0.05)
    return Verdict(BROKEN, f"still at work after 5 s; it began {quoted(exchange.reply)}")


def is_busy(server: Server) -> bool:
    path = "/health" if server.dialect == A else "/slots"
    value = json.loads(server.send("GET", path, None, 30, server.headers())[1])
    return bool(value["running"]) if server.dialect == A else any(slot["is_processing"] for slot in value)


@row("SIGTERM in the middle of a stream of 200 tokens: is it finished?", http=True)
def drain(server):
    if not server.has_process:
        return Verdict(UNTRIED, "here its process is a script of ours")
    body = {"prompt": "once upon a time ", "max_tokens": 200, "stream": True, **LONG[server.dialect]}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        connection, reply, exchange = server.post_stream("/v1/completions", body)
        exchange.reply = reply.readline().decode(errors="replace")
        if exchange.status != 200:
            return unanswered(exchange)
        rest = pool.submit(reply.read)
        server.process.send_signal(signal.SIGTERM)
        try:
            text = rest.result(60).decode(errors="replace")
            broke = ""
        except Exception as error:
            text, broke = "", f"; the stream broke: {type(error).__name__}"
        exchange.reply += f" ... {text[-200:]}{broke}"
        connection.close()
    try:
        code: Any = server.process.wait(30)
    except subprocess.TimeoutExpired:
        code = "still running"
    ended = re.search(r'"finish_reason":\s*"(\w+)"', text)
    finished = "[DONE]" in text and ended is not None
    server.stop()
    server.start()
    note = f"{text.count('data: ')} further events, ended by {ended and ended[1]}, exit status {code}{broke}"
    return Verdict(WORKS if finished else BROKEN, note)
