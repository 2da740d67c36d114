#!/usr/bin/env python3
"""Kills a server in the middle of a hundred streams, again and again, and checks its audit log; then tampers with it.

    scripts/serving/audit_kill.py --server PATH [--rounds 5] [--streams 100] [--places 10]

Each round starts the server on the same log, opens `--streams` streams, waits until all of them have begun, and kills
it with SIGKILL. `ananke audit verify` must find nothing but, at most, a torn last line; each reply that began must have
its record. The next server goes on with the chain. In the end one stops as it should, and the log must be whole.

Then lines are removed, swapped, edited and truncated, at `--places` places each, and the end is cut off; every time the
command must name the file, the line and the kind.

Needs the server with `ananke` beside it, and Python's standard library. Exit status 1 if a claim does not hold.
"""

import argparse
import json
import pathlib
import random
import re
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable

from served import Claims, Server, Wire, default_server, post_bytes, table

SECONDS_TO_BEGIN = 300
WHOLE, FOUND, TORN = 0, 1, 4

Lines = list[bytes]


class Log:
    """An audit log in a folder of its own, and the command that reads it."""

    def __init__(self, folder: pathlib.Path, ananke: pathlib.Path):
        self.folder, self.ananke = folder, ananke
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32))
        self.segment = folder / "log/audit-000001.jsonl"

    def flags(self, fsync: str) -> list[str]:
        log, key = str(self.folder / "log"), str(self.folder / "key")
        return ["--audit-dir", log, "--audit-key", key, "--audit-fsync", fsync, "--drain", "20"]

    def run(self, *words: str) -> tuple[int, str]:
        command = [self.ananke, "audit", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=900)
        return done.returncode, done.stdout + done.stderr

    def verify(self, *more: str) -> tuple[int, str]:
        return self.run("verify", "log", "--key", "key", *more)

    def lines(self) -> Lines:
        """Those that are whole; a torn tail is not among them."""
        return [line for line in self.segment.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


def kill_amid_streams(server: Server, num_streams: int, delay: float, round_number: int) -> tuple[list[str], int]:
    """Opens the streams, kills the server once all have begun; ids of the replies, and how many had not ended."""
    selector = selectors.DefaultSelector()
    wires = []
    for number in range(num_streams):
        wire = Wire((server.host, server.port))
        body = {"prompt": f"def f{round_number}_{number}(a, b):\n", "max_tokens": 400, "stream": True, "seed": number}
        wire.send(post_bytes("/v1/completions", json.dumps(body).encode()))
        selector.register(wire.socket, selectors.EVENT_READ, wire)
        wires.append(wire)

    def turn() -> None:
        for key, _ in selector.select(0.05):
            if key.data.receive() == 0:
                selector.unregister(key.data.socket)

    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while not all(b"data: " in wire.received for wire in wires):
        if time.monotonic() > deadline:
            sys.exit(f"not all streams began in {SECONDS_TO_BEGIN} s")
        turn()
    kill_at = time.monotonic() + delay
    while time.monotonic() < kill_at:
        turn()
    server.kill()
    while selector.get_map():
        turn()
    ids = [re.search(rb"\r\nx-request-id: (\S+)\r\n", wire.received) for wire in wires]
    num_open = sum(b"data: [DONE]" not in wire.received for wire in wires)
    for wire in wires:
        wire.close()
    return [found[1].decode() for found in ids if found], num_open


def kill_rounds(args: argparse.Namespace, log: Log, claims: Claims) -> None:
    choice = random.Random(args.seed)
    rows: list[tuple] = [("round", "streams cut", "records", "of them open", "bytes torn off", "verify says")]
    all_found, all_recorded, all_in_the_middle = True, True, True
    num_torn = 0
    for number in range(1, args.rounds + 1):
        with Server(args.server, log.flags(args.fsync)) as server:
            ids, num_open = kill_amid_streams(server, args.streams, choice.uniform(0, args.delay), number)
        status, said = log.verify()
        records = log.records()
        begun = [record["id"] for record in records if record["event"] == "request"]
        ended = [record["id"] for record in records if record["event"] == "reply"]
        torn = log.segment.stat().st_size - sum(map(len, log.lines()))
        num_torn += torn > 0
        all_found &= status == (TORN if torn else WHOLE)
        all_recorded &= len(ids) == args.streams and all(begun.count(one) == 1 for one in ids)
        all_in_the_middle &= num_open > 0
        rows.append((number, num_open, len(records), len(set(begun) - set(ended)), torn, said.splitlines()[-1][:100]))
    with Server(args.server, log.flags(args.fsync)) as server:
        status, text = server.ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 2})
        stopped = server.stop()
    goes_on = status == 200 and stopped == 0
    status, said = log.verify()
    records = log.records()
    rows.append(("stopped", 0, len(records), "", 0, said.splitlines()[-1][:100]))
    print(table(rows))
    after = [record["after"] for record in records if record["event"] == "open"]
    num_recovered = sum(record["event"] == "recovered" for record in records)
    sequence = [record["seq"] for record in records]
    claims.add(f"{args.rounds} times SIGKILL in the middle of {args.streams} streams", "streams were open", all_in_the_middle)
    claims.add("the log verifies up to its last record", f"{num_torn} torn tails", all_found)
    claims.add("each reply that began has its record", "once each" if all_recorded else "no", all_recorded)
    claims.add("the next server goes on with the chain", f"after: {', '.join(after)}", goes_on and after == ["new"] + ["killed"] * args.rounds)
    claims.add("records are numbered without a gap", f"1 to {len(sequence)}", sequence == list(range(1, len(sequence) + 1)))
    claims.add("what was torn is taken away and said", num_recovered, num_recovered == num_torn)
    claims.add("stopped as it should be, the log is whole", said.splitlines()[0][:80], status == WHOLE)
    claims.add("prompts are hashed", "none in the log", b"def f1_" not in log.segment.read_bytes())


def edit(line: bytes, choice: random.Random) -> bytes:
    """One digit of a line is another one."""
    places = [place for place, byte in enumerate(line) if chr(byte).isdigit()]
    place = choice.choice(places)
    return line[:place] + b"%d" % ((line[place] - ord("0") + choice.randint(1, 9)) % 10) + line[place + 1 :]


def tamper(args: argparse.Namespace, log: Log, claims: Claims) -> None:
    choice = random.Random(args.seed)
    lines = log.lines()
    status, head = log.run("head", "log", "--key", "key")
    if status != 0:
        sys.exit(f"the head cannot be read: {head}")
    (log.folder / "head").write_text(head)

    def swapped(at: int) -> Lines:
        return lines[:at] + [lines[at + 1], lines[at]] + lines[at + 2 :]

    # What is done at a line, which kind is found, and how many lines further on.
    kinds: dict[str, tuple[Callable[[int], Lines], str, int]] = {
        "a line removed": (lambda at: lines[:at] + lines[at + 1 :], "removed", 0),
        "two lines swapped": (swapped, "reordered", 1),
        "a digit edited": (lambda at: lines[:at] + [edit(lines[at], choice)] + lines[at + 1 :], "changed", 0),
        "a line truncated": (lambda at: lines[:at] + [lines[at][: len(lines[at]) // 2] + b"\n"] + lines[at + 1 :], "changed", 0),
        "the end cut off": (lambda at: lines[:at], "cut off", -1),
        "a line written twice": (lambda at: lines[: at + 1] + lines[at:], "reordered", 1),
    }  # fmt: skip
    rows: list[tuple] = [("tampering", "places", "found", "as", "for example")]
    for name, (make, kind, further) in kinds.items():
        num_found, example = 0, ""
        for _ in range(args.places):
            at = choice.randrange(2, len(lines) - 3)
            log.segment.write_bytes(b"".join(make(at)))
            status, said = log.verify("--head", "head")
            place = f"log/audit-000001.jsonl:{at + 1 + further}: {kind}: "
            found = [line for line in said.splitlines() if line.startswith(place)]
            num_found += status == FOUND and bool(found)
            example = found[0] if found else f"{place} is not in: {said}"
            if not found:
                print(f"note: {name}: {example[:400]}")
        rows.append((name, args.places, num_found, kind, example[:120].replace("|", "\\|")))
        claims.add(f"{name}: found by its file, line and kind", f"{num_found} of {args.places}", num_found == args.places)
    log.segment.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    status, said = log.verify()
    rows.append(("the last line torn", 1, int(status == TORN), "torn tail", said.splitlines()[0][:120]))
    claims.add("a torn tail is told from tampering", f"status {status}", status == TORN and "torn tail" in said)
    log.segment.write_bytes(b"".join(lines))
    status, said = log.verify("--head", "head")
    claims.add("the log as it was is whole, with its head", said.splitlines()[0][:80], status == WHOLE)
    print(table(rows))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=default_server())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--delay", type=float, default=2, help="most seconds between the last beginning and the kill")
    parser.add_argument("--fsync", default="always", help="--audit-fsync of the server")
    parser.add_argument("--places", type=int, default=10, help="where each kind of tampering is tried")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    claims = Claims()
    with tempfile.TemporaryDirectory() as folder:
        log = Log(pathlib.Path(folder), pathlib.Path(args.server).resolve().with_name("ananke"))
        kill_rounds(args, log, claims)
        tamper(args, log, claims)
    print()
    return claims.finish()


if __name__ == "__main__":
    sys.exit(main())
