#!/usr/bin/env python3
"""Loads a server with well-behaved clients and others, and compares each stream with what its request gave alone.

    scripts/serving/load.py --server PATH [--seconds 300] [--streams 200] [--leavers N] [--slow N] [--stalled N]
        [--flood-rate R] [--pairs 5] [--pair-seconds 30] [--pool P] [--plant]

First a pool of `--pool` requests (free and bound by constraints, greedy and seeded) runs one by one. Then, for
`--seconds`, `--streams` clients ask for what is in the pool, all at once: leavers hang up at a random byte, slow
readers take 8 KiB a second, stalled readers take nothing, and all others read. Beside them come `--flood-rate` bad
requests a second, among them those of a key over its limit. What each stream brought must be what the request gave
alone: text, tokens and log-probabilities; of a stream that was left or cut, its beginning.

Memory is flat if the median resident size of the last quarter of those seconds is at most 5 % over that of the second
quarter: caches fill in the first.

Then pairs: the well-behaved clients alone, and with all others, each for `--pair-seconds`, the order changing. Their
inter-token latency is what the server's own records say, GET /v1/provenance/{id}: from a choice's first token to its
last. With 32 well-behaved clients or more the engine's batch is full in both. The load holds nobody up if the 95 %
confidence interval of the ratios' mean (Student's t over their logarithms) ends below `--ratio-most`.

`--plant` exchanges the second halves of two streams; the script must then fail.

Needs the server with `ananke` beside it, and Python's standard library. Exit status 1 if a claim does not hold.
"""

import argparse
import asyncio
import collections
import dataclasses
import itertools
import json
import math
import pathlib
import random
import statistics
import sys
import tempfile
import time
from typing import Any, Awaitable, Callable, Iterator

from served import Answer, Claims, Server, Wire, default_server, get_bytes, new_key, post_bytes, read_stream, table

SECONDS_PER_STREAM = 600
SECONDS_STALLED = 8
SLOW_BYTES, SLOW_PAUSE = 512, 1 / 16
GROWTH_MOST = 0.05
NUM_NOTES = 5
SERVER_FLAGS = ["--stalled-stream", str(SECONDS_STALLED), "--send-buffer", "16KiB"]
# Room for all streams to wait, and for all constraints: what is compiled again and again is another show.
LIMITS = "[limits]\nqueue_len = 4096\ncached_constraints = 1024\n"
# 97.5 % quantiles of Student's t, by degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 9999},
        "status": {"enum": ["open", "paid", "sent"]},
        "items": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["id", "status", "items"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
POINT = {"source": "interface Point { x: number; label: 'a' | 'b'; note: string }", "language": "typescript"}

Fields = dict[str, Any]


# --- what is asked for ---


@dataclasses.dataclass
class Item:
    """A request, and what came of it when it ran alone."""

    path: str
    body: bytes
    solo: Answer = dataclasses.field(default_factory=Answer)
    num_bytes: int = 0


def completion(prompt: str, **fields: Any) -> tuple[str, Fields]:
    return "/v1/completions", {"prompt": prompt, "max_tokens": 96, "logprobs": 0, **fields}


def chat(text: str, **fields: Any) -> tuple[str, Fields]:
    messages = [{"role": "user", "content": text}]
    return "/v1/chat/completions", {"messages": messages, "max_tokens": 96, "logprobs": True, **fields}


def schema(value: Any) -> Fields:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": value, "strict": True}}


ASKED: list[Callable[[int], tuple[str, Fields]]] = [
    lambda at: completion(f"def function_{at}(a, b):\n"),
    lambda at: completion(f"order {at} = ", response_format=schema(ORDER)),
    lambda at: completion(f"word {at}: ", structured_outputs={"regex": "[a-z]{8}( [a-z]{3,9}){6}"}),
    lambda at: chat(f"What is {at} plus 2?"),
    lambda at: completion(f"sum {at}: ", structured_outputs={"grammar": 'root ::= [0-9]+ ("+" [0-9]+)+ ";"'}),
    lambda at: completion(f"class Number{at}:\n", n=2, stop=["\n\n\n"]),
    lambda at: chat(f"The weather in town {at}?", tools=[WEATHER], tool_choice="required"),
    lambda at: completion(f"point {at} = ", context={**POINT, "type": "Point"}),
    lambda at: completion(f"def add_{at}(a, b):\n    ", suffix="\n\nprint(add(1, 2))\n"),
    lambda at: completion(f"text {at}: ", constraint_ir={"forbidden_text": [{"text": "e"}, {"text": " the"}]}),
    lambda at: chat(f"Order {at}, please.", response_format=schema(ORDER)),
]
BULKY = [lambda at: completion(f"# file {at}\nimport os\n", n=2, logprobs=5, max_tokens=160)]
ENDLESS = [
    lambda at: completion(f"{at}: ", n=4, logprobs=5, max_tokens=600, structured_outputs={"regex": "[a-z ]{1200,}"})
]


def requests(kinds: list[Callable[[int], tuple[str, Fields]]], choice: random.Random) -> Iterator[Item]:
    for at in itertools.count():
        path, fields = kinds[at % len(kinds)](at)
        is_greedy = at % 3 == 0 and "n" not in fields  # greedy choices would all be the same
        sampling = {"temperature": 0} if is_greedy else {"temperature": 0.8, "seed": choice.randrange(1 << 31)}
        yield Item(path, json.dumps({**fields, **sampling, "stream": True}).encode())


def bad_requests(keys: dict[str, str]) -> dict[str, tuple[bytes, set[int]]]:
    """Requests by what is wrong with them, and the statuses that answer them."""

    def post(*statuses: int, key: str | None = keys["steady"], **fields: Any) -> tuple[bytes, set[int]]:
        body = json.dumps({"prompt": "x", "max_tokens": 1, **fields}).encode()
        return post_bytes("/v1/completions", body, key), set(statuses)

    def raw(body: bytes, status: int) -> tuple[bytes, set[int]]:
        return post_bytes("/v1/completions", body, keys["steady"]), {status}

    return {
        "bad JSON": raw(b'{"prompt": "x",\n "n": oops}', 400),
        "not UTF-8": raw(b"\xff\xfe", 400),
        "nested 5,000 deep": raw(b"[" * 5000, 400),
        "unknown field": post(400, no_such_field=1),
        "wrong type": post(400, max_tokens="x"),
        "out of range": post(400, n=10**9),
        "prompt too long": post(400, prompt="word " * 20000),
        "no such model": post(404, model="other"),
        "contradiction": post(422, response_format={"type": "json_object"}, structured_outputs={"regex": "[a-z]+"}),
        "empty schema": post(422, response_format=schema(False)),
        "bad regex": post(422, structured_outputs={"regex": "a(b"}),
        "bad grammar": post(422, structured_outputs={"grammar": 'start: "a"\nb: (('}),
        "body of 5 MiB": raw(b'{"prompt": "' + b"x" * (5 << 20) + b'"}', 413),
        "wrong key": post(401, key="ananke_" + "0" * 64),
        "no key": post(401, key=None),
        "key without the scope": post(403, key=keys["watcher"]),
        "not JSON by its head": (raw(b"{}", 0)[0].replace(b"application/json", b"text/plain"), {415}),
        "wrong method": (get_bytes("/v1/completions", keys["steady"]), {405}),
        "no such path": (post_bytes("/v1/embeddings", b"{}", keys["steady"]), {404}),
        "key over its limit": post(200, 429, key=keys["limited"]),
    }


# --- reading ---


async def readable(wire: Wire) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(wire.socket, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(wire.socket)


async def some(wire: Wire, most: int = 1 << 18) -> None:
    """Reads what is there, once there is something."""
    while wire.receive(most) < 0:
        await readable(wire)


async def whole(wire: Wire) -> None:
    """Reads until the reply or the connection ends; what is then missing says that it took too long."""
    try:
        async with asyncio.timeout(SECONDS_PER_STREAM):
            while not wire.has_ended and not wire.is_whole():
                await some(wire)
    except TimeoutError:
        pass


def beginning(wire: Wire) -> Answer:
    """What the whole events of a stream say that was left."""
    body = wire.body()
    return read_stream(body[: body.rfind(b"\n\n") + 2])


# --- the clients ---


@dataclasses.dataclass
class Tally:
    """What came of all streams and bad requests so far."""

    streams: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    statuses: collections.Counter[tuple[str, int]] = dataclasses.field(default_factory=collections.Counter)
    unexpected: int = 0
    ids: set[str] = dataclasses.field(default_factory=set)
    num_tokens: int = 0
    resident: list[int] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def count(self, fate: str, role: str = "") -> int:
        return sum(count for (of, what), count in self.streams.items() if what == fate and role in ("", of))

    def note(self, text: str) -> None:
        if len(self.notes) < NUM_NOTES:
            self.notes.append(text)
            print(f"note: {text[:600]}", file=sys.stderr, flush=True)

    def judge(self, role: str, item: Item, answer: Answer, status: int) -> None:
        """A stream that was to be read to its end."""
        is_lost = status != 200 or answer.error or not answer.is_done
        self.book(role, item, answer, "lost" if is_lost else "same", is_lost or answer.is_same(item.solo))

    def judge_beginning(self, role: str, item: Item, wire: Wire, fate: str) -> None:
        """A stream that was left or cut."""
        answer = beginning(wire)
        self.book(role, item, answer, fate, answer.begins(item.solo))

    def book(self, role: str, item: Item, answer: Answer, fate: str, is_right: bool) -> None:
        if not is_right or answer.other_id or answer.id in self.ids:
            fate = "mixed up"
        if answer.id:
            self.ids.add(answer.id)
        self.num_tokens += answer.num_tokens()
        self.streams[role, fate] += 1
        if fate in ("lost", "mixed up"):
            self.note(f"{role}, {fate}: {answer}\nalone: {item.solo}")


class Planter:
    """Exchanges the second halves of two streams, as a server would that mixes them up, each under its own id."""

    def __init__(self) -> None:
        self.first: tuple[Item, bytes] | None = None
        self.is_done = False

    def plant(self, item: Item, body: bytes) -> list[tuple[Item, bytes]]:
        """What is to be judged now."""
        if self.is_done:
            return [(item, body)]
        if self.first is None or self.first[0] is item:
            held, self.first = self.first, (item, body)
            return [held] if held else []
        self.is_done = True
        one, its_body = self.first
        return [(one, self.mixed(its_body, body)), (item, self.mixed(body, its_body))]

    @staticmethod
    def mixed(body: bytes, other: bytes) -> bytes:
        name, other_name = (read_stream(one).id.encode() for one in (body, other))
        events, others = body.split(b"\n\n"), other.replace(other_name, name).split(b"\n\n")
        return b"\n\n".join(events[: len(events) // 2] + others[len(others) // 2 :])


class Crowd:
    """All clients for some seconds; each asks for one item of its pool after another, on its own connection."""

    def __init__(self, server: Server, keys: dict[str, str], pools: dict[str, list[Item]], tally: Tally, seed: int):
        self.server, self.keys, self.pools, self.tally = server, keys, pools, tally
        self.choice = random.Random(seed)
        self.planter: Planter | None = None
        self.latencies: list[tuple[float, int]] = []

    async def run(self, seconds: float, roles: dict[str, int], flood_rate: float) -> None:
        self.end = time.monotonic() + seconds
        self.latencies = []
        ways = {"steady": self.read, "leaving": self.leave, "slow": self.read_slowly, "stalled": self.stall}
        works = [self.ask_on(role, ways[role]) for role, count in roles.items() for _ in range(count)]
        await asyncio.gather(*works, *self.flood(flood_rate), self.sample())

    def is_on(self) -> bool:
        return time.monotonic() < self.end

    def wire(self, receive_bytes: int | None = None) -> Wire:
        return Wire((self.server.host, self.server.port), receive_bytes)

    async def ask_on(self, role: str, way: Callable[[str, Item, Wire], Awaitable[None]]) -> None:
        receive_bytes = 8 << 10 if role in ("slow", "stalled") else None
        wire = self.wire(receive_bytes)
        while self.is_on():
            item = self.choice.choice(self.pools[role])
            if wire.has_ended or role in ("leaving", "stalled"):
                wire.close()
                wire = self.wire(receive_bytes)
            wire.send(post_bytes(item.path, item.body, self.keys[role]))
            await way(role, item, wire)
        wire.close()

    async def read(self, role: str, item: Item, wire: Wire) -> None:
        await whole(wire)
        status, body = wire.status(), wire.body()
        for one, its_body in self.planter.plant(item, body) if self.planter else [(item, body)]:
            answer = beginning(wire) if wire.has_ended else read_stream(its_body)
            self.tally.judge(role, one, answer, status)
        if self.is_on() and not self.planter and status == 200:
            await self.look_up(wire, answer.id)

    async def look_up(self, wire: Wire, name: str) -> None:
        """Takes the server's own times of a reply from its record."""
        wire.send(get_bytes(f"/v1/provenance/{name}", self.keys["steady"]))
        await whole(wire)
        if wire.status() != 200:
            self.tally.note(f"no record of {name}: {bytes(wire.received[:300])!r}")
            return
        for request in json.loads(wire.body())["requests"]:
            for choice in request["choices"]:
                stats, num_gaps = choice["stats"], choice["num_tokens"] - 1
                if num_gaps > 0:
                    milliseconds = stats["total_time_ms"] - stats["time_to_first_token_ms"]
                    self.latencies.append((milliseconds / 1e3, num_gaps))

    async def read_slowly(self, role: str, item: Item, wire: Wire) -> None:
        deadline = time.monotonic() + SECONDS_PER_STREAM
        while not wire.has_ended and not wire.is_whole() and time.monotonic() < deadline:
            await some(wire, SLOW_BYTES)
            if self.is_on():
                await asyncio.sleep(SLOW_PAUSE)
        self.tally.judge(role, item, beginning(wire), wire.status())

    async def leave(self, role: str, item: Item, wire: Wire) -> None:
        most = self.choice.choice([0, self.choice.randrange(item.num_bytes)])
        await asyncio.sleep(0 if most else self.choice.random())
        while not wire.has_ended and not wire.is_whole() and len(wire.received) < most:
            await some(wire, max(1, most - len(wire.received)))
        self.tally.judge_beginning(role, item, wire, "left")
        wire.close(abruptly=self.choice.random() < 0.5)

    async def stall(self, role: str, item: Item, wire: Wire) -> None:
        """Takes nothing for long enough to be cut, and then what there is."""
        await some(wire, 1)
        wait_until = time.monotonic() + 4 * SECONDS_STALLED
        while self.is_on() and time.monotonic() < wait_until:
            await asyncio.sleep(0.25)
        if not self.is_on():
            return
        await whole(wire)
        is_cut = wire.has_ended and not wire.is_whole()
        self.tally.judge_beginning(role, item, wire, "cut" if is_cut else "not cut")

    def flood(self, rate: float, num_connections: int = 8) -> list[Awaitable[None]]:
        return [self.send_bad(num_connections / rate) for _ in range(num_connections)] if rate else []

    async def send_bad(self, period: float) -> None:
        kinds = list(bad_requests(self.keys).items())
        wire, due = self.wire(), time.monotonic()
        while self.is_on():
            kind, (request, statuses) = self.choice.choice(kinds)
            if wire.has_ended:
                wire.close()
                wire = self.wire()
            wire.received.clear()
            try:
                await asyncio.get_running_loop().sock_sendall(wire.socket, request)
            except ConnectionError:  # answered and closed before the end of what is refused
                pass
            await whole(wire)
            status = wire.status()
            is_expected = status in statuses and (status != 429 or b"\r\nretry-after: " in wire.received)
            self.tally.statuses[kind, status] += 1
            self.tally.unexpected += not is_expected
            if not is_expected:
                self.tally.note(f"{kind}: {bytes(wire.received[:400])!r}")
            wire.has_ended |= status in (0, 413) or b"\r\nconnection: close\r\n" in wire.received
            due = max(due + period, time.monotonic() - 1)
            await asyncio.sleep(max(0, due - time.monotonic()))
        wire.close()

    async def sample(self) -> None:
        while self.is_on():
            self.tally.resident.append(self.server.resident_bytes())
            await asyncio.sleep(min(1, max(0, self.end - time.monotonic())))

    def inter_token_latency(self) -> float:
        """Seconds from one token of a well-behaved client's to the next, the mean over all."""
        return sum(seconds for seconds, _ in self.latencies) / max(1, sum(gaps for _, gaps in self.latencies))


# --- the show ---


async def run_alone(server: Server, key: str, items: Iterator[Item], size: int) -> list[Item]:
    """The first requests whose answers differ from each other, with those answers."""
    wire, pool = Wire((server.host, server.port)), []
    for item in itertools.islice(items, 10 * size):
        wire.send(post_bytes(item.path, item.body, key))
        await whole(wire)
        item.solo, item.num_bytes = read_stream(wire.body()), len(wire.received)
        if wire.status() != 200 or not item.solo.is_done:
            sys.exit(f"{item.body.decode()} got {bytes(wire.received[:1000])!r}")
        if not any(item.solo.is_same(other.solo) for other in pool):
            pool.append(item)
        if len(pool) == size:
            wire.close()
            return pool
    sys.exit(f"only {len(pool)} answers differ from each other; {size} are needed")


def quarters(values: list[int]) -> list[float]:
    """The median of each quarter."""
    size = len(values) // 4
    return [statistics.median(values[at * size : (at + 1) * size]) for at in range(4)]


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The geometric mean, and its 95 % confidence interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, spread = statistics.mean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    reach = STUDENT[min(len(logs) - 1, len(STUDENT)) - 1] * spread
    return math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)


async def load(args: argparse.Namespace, crowd: Crowd, roles: dict[str, int], claims: Claims) -> None:
    server, tally = crowd.server, crowd.tally
    crowd.planter = Planter() if args.plant else None
    begin, ours, theirs = time.monotonic(), time.process_time(), server.cpu_seconds()
    await crowd.run(args.seconds, roles, args.flood_rate)
    took = time.monotonic() - begin
    crowd.planter = None
    ours, theirs = time.process_time() - ours, server.cpu_seconds() - theirs
    fates = ["same", "left", "cut", "not cut", "lost", "mixed up"]
    rows = [(role, *(tally.count(fate, role) for fate in fates)) for role in roles]
    print(table([("streams", *fates), *rows]) + "\n")
    rows = [(*of, times) for of, times in sorted(tally.statuses.items())]
    print(table([("bad request", "status", "times"), *rows]) + "\n")
    print(f"{tally.num_tokens} tokens in {took:.0f} s; cores: server {theirs / took:.2f}, clients {ours / took:.2f}\n")
    medians = quarters(tally.resident)
    growth = medians[3] / medians[1] - 1
    said = f"{', '.join(f'{median / 2**20:.0f}' for median in medians)} MiB by quarters: {growth:+.1%}"
    claims.add(f"memory is flat: last quarter at most {GROWTH_MOST:.0%} over the second", said, growth <= GROWTH_MOST)


async def compare(args: argparse.Namespace, crowd: Crowd, roles: dict[str, int], claims: Claims) -> None:
    """Pairs of a quiet run and one with everybody."""
    runs = {"quiet": ({"steady": roles["steady"]}, 0), "loaded": (roles, args.flood_rate)}
    rows: list[tuple] = [("pair", "first", "quiet, ms", "loaded, ms", "ratio", "choices timed")]
    ratios = []
    for pair in range(args.pairs):
        found: dict[str, tuple[float, int]] = {}
        for name in list(runs) if pair % 2 == 0 else reversed(runs):
            await asyncio.to_thread(crowd.server.settle)
            await crowd.run(args.pair_seconds, *runs[name])
            found[name] = crowd.inter_token_latency(), len(crowd.latencies)
        (quiet, num_quiet), (loaded, num_loaded) = found["quiet"], found["loaded"]
        if not num_quiet or not num_loaded:
            sys.exit("no stream ended within --pair-seconds")
        ratios.append(loaded / quiet)
        timed = f"{num_quiet}, {num_loaded}"
        shown = [f"{quiet * 1e3:.2f}", f"{loaded * 1e3:.2f}", f"{ratios[-1]:.3f}"]
        rows.append((pair + 1, next(iter(found)), *shown, timed))
    print(table(rows) + "\n")
    mean, low, high = interval(ratios)
    claims.add(
        f"inter-token latency, loaded against quiet, in {args.pairs} pairs: at most {args.ratio_most}",
        f"{mean:.3f} (95 %: {low:.3f} to {high:.3f})",
        high <= args.ratio_most,
    )


async def show(args: argparse.Namespace, server: Server, keys: dict[str, str], claims: Claims) -> None:
    choice = random.Random(args.seed)
    pool = await run_alone(server, keys["steady"], requests(ASKED, choice), args.pool)
    bulky = await run_alone(server, keys["slow"], requests(BULKY, choice), 8)
    endless = await run_alone(server, keys["stalled"], requests(ENDLESS, choice), 2)
    pools = {"steady": pool, "leaving": pool + bulky, "slow": bulky, "stalled": endless}
    num_tokens = sum(item.solo.num_tokens() for item in pool)
    print(f"{len(pool)} requests, {num_tokens} tokens, ran one by one; no two answers are the same\n", flush=True)
    roles = {"leaving": args.leavers, "slow": args.slow, "stalled": args.stalled}
    roles = {"steady": args.streams - sum(roles.values()), **roles}
    tally = Tally()
    crowd = Crowd(server, keys, pools, tally, args.seed)
    await load(args, crowd, roles, claims)
    if args.pairs:
        await compare(args, crowd, roles, claims)
    health = await asyncio.to_thread(server.settle)
    claim_streams(args, tally, claims)
    claims.add("every KV block came home", f"{health['blocks_free']} of {health['blocks_total']}", health["settled"])
    is_sound = not health["restarts"] and "panic" not in server.log()
    claims.add("no step failed, nothing panicked", f"{health['restarts']} restarts", is_sound)


def claim_streams(args: argparse.Namespace, tally: Tally, claims: Claims) -> None:
    num_read = sum(map(tally.count, ["same", "lost", "mixed up"]))
    num_begun = tally.count("left") + tally.count("cut")
    claims.add("streams that were lost", f"{tally.count('lost')} of {num_read}", tally.count("lost") == 0 < num_read)
    claims.add(
        "streams that were mixed up: other text, tokens or log-probabilities than alone, or another's id",
        f"{tally.count('mixed up')} of {num_read} whole ones and {num_begun} that were left or cut",
        tally.count("mixed up") == 0,
    )
    num_cut, num_not = tally.count("cut"), tally.count("not cut")
    claims.add("stalled readers are cut", f"{num_cut}, {num_not} not", not args.stalled or num_cut > 0 == num_not)
    if args.flood_rate:
        num_bad, num_wrong = tally.statuses.total(), tally.unexpected
        claims.add("bad requests have their own status", f"{num_bad - num_wrong} of {num_bad}", num_wrong == 0)
        num_let_in, num_refused = (tally.statuses["key over its limit", status] for status in (200, 429))
        said = f"{num_refused} times 429, {num_let_in} let in"
        claims.add("a key over its limit is told when to try again", said, num_refused > 0)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=default_server())
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--streams", type=int, default=200, help="clients at once, those of all kinds together")
    parser.add_argument("--leavers", type=int, default=40)
    parser.add_argument("--slow", type=int, default=20)
    parser.add_argument("--stalled", type=int, default=8)
    parser.add_argument("--flood-rate", type=float, default=100, help="bad requests a second")
    parser.add_argument("--pairs", type=int, default=5, help="0 for none, else at least 2")
    parser.add_argument("--pair-seconds", type=float, default=30)
    parser.add_argument("--pool", type=int, default=110)
    parser.add_argument("--ratio-most", type=float, default=1.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plant", action="store_true", help="mix two streams up, so that this must fail")
    args = parser.parse_args()
    if args.pairs == 1 or args.streams <= args.leavers + args.slow + args.stalled or args.seconds < 8:
        parser.error("there are at least two pairs, one well-behaved client, and 8 seconds")
    return args


def main() -> int:
    args = parse_args()
    claims = Claims()
    ananke = pathlib.Path(args.server).resolve().with_name("ananke")
    made = {role: new_key(ananke, role, "generate") for role in ("steady", "leaving", "slow", "stalled")}
    made["limited"] = new_key(ananke, "limited", "generate", requests_per_minute=6)
    made["watcher"] = new_key(ananke, "watcher", "metrics")
    with tempfile.TemporaryDirectory() as folder:
        keys, config = pathlib.Path(folder) / "keys.toml", pathlib.Path(folder) / "config.toml"
        keys.write_text("".join(entry for _, entry in made.values()))
        config.write_text(LIMITS)
        flags = [*SERVER_FLAGS, "--api-keys", str(keys), "--config", str(config)]
        with Server(args.server, flags) as server:
            asyncio.run(show(args, server, {role: secret for role, (secret, _) in made.items()}, claims))
    return claims.finish()


if __name__ == "__main__":
    sys.exit(main())
