#!/usr/bin/env python3
"""Two servers share a real Redis, which is killed and started again under load; then its entries are poisoned.

    scripts/serving/redis.py --server PATH [--seconds 60] [--clients 4] [--poisoned 12]

Starts a redis-server of its own in a temporary folder, and two servers with it as `--cache-url`. `--clients` threads
ask, each time with a constraint that nobody has asked for before: a type mined from a source, or a schema. One server
is asked first, then the other, which finds in Redis what the first one found out; the answers must be the same. After a
third of the time Redis is killed with SIGKILL and stays away for a sixth; at two thirds it is killed again and started
at once. No request may fail.

Then `--poisoned` requests fill an empty Redis through one server, bytes of half of the entries are changed and the
others change places, and the other server is asked: it must refuse every one, count it, and answer the same.

Needs redis-server, and Python's standard library. Exit status 1 if a claim does not hold.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from served import Claims, Server, default_server, table

SECONDS_TO_START = 30
# Short, so that a server tries a Redis again that came back within the run.
RETRY_AFTER = 2
OUTCOMES = ["hit", "miss", "refused", "error", "skipped", "stored", "dropped"]

Fields = dict[str, Any]


class Redis:
    """A redis-server on a free port of loopback that keeps nothing on the disk."""

    def __init__(self, folder: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", folder]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                self.ask(b"PING")
                return
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f"redis-server did not start: {' '.join(self.command)}")
                time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, *words: bytes) -> Any:
        """A command's answer: bytes, a number, or a list of them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            return self.answer(connection.makefile("rb"))

    def answer(self, stream: Any) -> Any:
        line = stream.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"*":
            return [self.answer(stream) for _ in range(int(rest))]
        if kind == b"$":
            return stream.read(int(rest) + 2)[:-2]
        if kind not in (b"+", b":"):
            raise OSError(f"redis-server answers {line!r}")
        return rest if kind == b"+" else int(rest)

    def entries(self) -> dict[bytes, bytes]:
        return {name: self.ask(b"GET", name) for name in sorted(self.ask(b"KEYS", b"*"))}


def request(number: int) -> Fields:
    """A request with a constraint of its own."""
    fields: Fields = {"prompt": f"value {number} = ", "max_tokens": 64, "seed": number, "temperature": 0.8}
    if number % 2:
        source = f"interface Kind{number} {{ id{number}: number; label: 'a{number}' | 'b{number}' }}"
        return {**fields, "context": {"source": source, "language": "typescript", "type": f"Kind{number}"}}
    properties = {f"id{number}": {"type": "integer", "minimum": 1, "maximum": 9}, "is_open": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}
    return {**fields, "response_format": wanted}


def answer(server: Server, number: int) -> tuple[str, str]:
    """Text and end of the answer, or of what came in its place; a text that ended keeps to the constraint."""
    status, body = server.ask("POST", "/v1/completions", request(number))
    if status != 200:
        return f"status {status}: {body[:300]}", "failed"
    choice = json.loads(body)["choices"][0]
    if choice["finish_reason"] == "stop":
        value = json.loads(choice["text"])
        if f"id{number}" not in value or not choice["validation"]["all_satisfied"]:
            return f"it breaks its constraint: {choice}", "failed"
    return choice["text"], choice["finish_reason"]


def outcomes(server: Server) -> collections.Counter[str]:
    """How often this server came to each outcome with Redis."""
    metrics = server.metrics()
    name = 'ananke_cache_tier_operations_total{{outcome="{}",tier="redis"}}'
    return collections.Counter({one: int(metrics[name.format(one)]) for one in OUTCOMES})


@dataclasses.dataclass
class Found:
    """What the threads of the load have seen."""

    next_number: int = 0
    num_requests: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    ends: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def take_number(self) -> int:
        with self.lock:
            self.next_number += 1
            return self.next_number

    def book(self, number: int, first: tuple[str, str], second: tuple[str, str]) -> None:
        with self.lock:
            self.num_requests += 2
            self.ends.update([first[1], second[1]])
            if "failed" in (first[1], second[1]) or first != second:
                self.faults.append(f"{request(number)}: {first} and {second}")


def ask_both(servers: list[Server], found: Found, end: float) -> None:
    """Asks one server, and then the other, until the time is over."""
    while time.monotonic() < end:
        number = found.take_number()
        first, second = servers if number % 4 < 2 else reversed(servers)
        try:
            found.book(number, answer(first, number), answer(second, number))
        except Exception as error:  # a connection that breaks is a request that failed
            found.book(number, (repr(error), "failed"), ("", "failed"))


def load(args: argparse.Namespace, redis: Redis, servers: list[Server], claims: Claims) -> int:
    """The load with two kills; the first number that is still free."""
    found, begin = Found(), time.monotonic()
    threads = [
        threading.Thread(target=ask_both, args=(servers, found, begin + args.seconds)) for _ in range(args.clients)
    ]
    for thread in threads:
        thread.start()
    rows: list[tuple] = [("until", "requests", *OUTCOMES)]
    before: collections.Counter[str] = collections.Counter()
    num_before = 0

    def wait(part: float) -> None:
        time.sleep(max(0, begin + part * args.seconds - time.monotonic()))

    def stage(name: str) -> collections.Counter[str]:
        """What both servers came to since the last one."""
        nonlocal before, num_before
        now = outcomes(servers[0]) + outcomes(servers[1])
        since = now - before
        rows.append((name, found.num_requests - num_before, *(since[outcome] for outcome in OUTCOMES)))
        before, num_before = now, found.num_requests
        return since

    wait(1 / 3)
    with_redis = stage("the first kill")
    redis.kill()
    wait(1 / 2)
    without = stage("Redis starts again")
    redis.start()
    wait(2 / 3)
    again = stage("the second kill")
    redis.kill()
    redis.start()
    for thread in threads:
        thread.join()
    at_last = stage("the end")
    print(table(rows) + "\n")
    for fault in found.faults[:5]:
        print(f"note: {fault[:1000]}", file=sys.stderr)
    num_hits = [since["hit"] for since in (with_redis, again, at_last)]
    ends = ", ".join(f"{count} {end}" for end, count in found.ends.most_common())
    said = f"{len(found.faults)} of {found.num_requests} ({ends})"
    claims.add("requests that failed, or were answered otherwise by the other server", said, not found.faults)
    what = "hits on what the other server found out, before, between and after the kills"
    claims.add(what, num_hits, all(num_hits))
    num_lost = without["error"] + without["skipped"]
    claims.add("Redis was missed while it was away", f"{num_lost} times", num_lost > 0)
    return found.next_number + 1


def poison(redis: Redis, choice: random.Random) -> tuple[int, int]:
    """Changes a byte of every other entry, and has the ones between change places; how many of each."""
    entries = redis.entries()
    names = list(entries)
    changed, moved = names[::2], names[1::2]
    for name in changed:
        at = choice.randrange(len(entries[name]))
        value = bytearray(entries[name])
        value[at] ^= 1 << choice.randrange(8)
        redis.ask(b"SET", name, bytes(value))
    for name, other in zip(moved, moved[1:] + moved[:1]):
        redis.ask(b"SET", name, entries[other])
    return len(changed), len(moved)


def wait_for_entries(redis: Redis) -> int:
    """Entries once no more come: a server stores them beside its answers."""
    num_before = -1
    while (num_entries := redis.ask(b"DBSIZE")) != num_before:
        num_before = num_entries
        time.sleep(1)
    return num_entries


def refuse_poison(args: argparse.Namespace, redis: Redis, servers: list[Server], first: int, claims: Claims) -> None:
    writer, reader = servers
    redis.ask(b"FLUSHALL")
    numbers = range(first, first + args.poisoned)
    right = [answer(writer, number) for number in numbers]
    num_entries = wait_for_entries(redis)
    num_changed, num_moved = poison(redis, random.Random(args.seed))
    before = outcomes(reader)
    got = [answer(reader, number) for number in numbers]
    since = outcomes(reader) - before
    num_same = sum(one == other for one, other in zip(right, got))
    row = (num_entries, num_changed, num_moved, since["refused"], since["hit"])
    print(table([("entries", "changed", "moved", "refused", "believed"), row]) + "\n")
    is_refused = since["refused"] == num_changed + num_moved == num_entries > 0 == since["hit"]
    claims.add("poisoned entries are refused and counted", f"{since['refused']} of {num_entries}", is_refused)
    is_right = num_same == len(right) and all(end != "failed" for _, end in got)
    claims.add("the answers are right all the same", f"{num_same} of {len(right)}", is_right)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=default_server())
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--poisoned", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if not shutil.which("redis-server"):
        sys.exit("redis-server is missing; on Debian `apt-get install redis-server` brings it")
    claims = Claims()
    with tempfile.TemporaryDirectory() as folder:
        key = pathlib.Path(folder) / "key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32))
        redis = Redis(folder)
        url = f"redis://127.0.0.1:{redis.port}"
        flags = ["--cache-url", url, "--cache-key", str(key), "--cache-retry-after", str(RETRY_AFTER)]
        try:
            with Server(args.server, flags) as one, Server(args.server, flags) as other:
                first = load(args, redis, [one, other], claims)
                refuse_poison(args, redis, [one, other], first, claims)
        finally:
            redis.kill()
    return claims.finish()


if __name__ == "__main__":
    sys.exit(main())
