#!/usr/bin/env python3
"""How long do clients wait for the first token and for the next, at 1, 16, 64 and 256 streams? Then a soak.

    scripts/serving/latency.py --server PATH [--streams 1,16,64,256] [--tokens 128] [--soak 300] [--soak-streams 64]
                               [--gpu N] [-- SERVER_FLAG...]

Each load opens its streams at once and reads them to their end. Time to the first token (TTFT) counts from the request,
time between tokens (ITL) from event to event, as the client sees them. The soak keeps its streams open for so many
seconds, with prompts and lengths of all sizes, and drops about a third of them before their end. Memory (the GPU's with
`--gpu`, as nvidia-smi counts it; else what is resident of the server) is compared between its first and its last
quarter, after all caches have filled. Afterwards no sequence may run and every block must be free.

Reading takes processes of its own, because one Python cannot keep up with a GPU. Needs Python's standard library.
Exit status 1 where a reply failed, memory grew, or a block was lost.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import random
import selectors
import statistics
import subprocess
import sys
import time

from served import Server, Wire, default_server, post_bytes, table

PROMPT_LINES = 6  # about 40 tokens each; the longest prompts of the soak, four times as many, fit the embedded model
STREAMS_PER_READER = 32
SOAK_TOKENS_MAX = 256
CANCELLED_SHARE = 0.35
SAMPLE_EVERY_S = 2.0
WARM_UP_SHARE = 0.2
GPU_GROWTH_MAX_BYTES = 64 << 20
RESIDENT_GROWTH_MAX_BYTES = 48 << 20

Address = tuple[str, int]


@dataclasses.dataclass
class Timings:
    """What readers saw, in seconds."""

    first: list[float] = dataclasses.field(default_factory=list)
    between: list[float] = dataclasses.field(default_factory=list)
    num_tokens: int = 0
    num_whole: int = 0
    num_cancelled: int = 0
    errors: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: "Timings") -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Stream:
    """One request, and when what came of its reply."""

    def __init__(self, address: Address, request: dict, cancel_after: int | None):
        self.wire = Wire(address)
        self.cancel_after = cancel_after
        self.arrivals: list[tuple[float, int]] = []
        self.start = time.perf_counter()
        self.wire.send(post_bytes("/v1/completions", json.dumps(request).encode()))

    def read(self) -> bool:
        """Takes what is there; whether the stream is over."""
        if self.wire.receive() >= 0:
            self.arrivals.append((time.perf_counter(), len(self.wire.received)))
        if self.cancel_after is not None and self.wire.received.count(b"\ndata: {") >= self.cancel_after:
            return True
        return self.wire.has_ended or self.wire.received.endswith(b"\r\n0\r\n\r\n")

    def close_into(self, timings: Timings) -> None:
        received = bytes(self.wire.received)
        is_whole = b"data: [DONE]" in received
        if self.wire.status() != 200 or b"event: error" in received or not (is_whole or self.cancel_after):
            timings.errors.append(received[-300:].decode(errors="replace") or "the connection was closed")
        timings.num_whole += is_whole
        timings.num_cancelled += not is_whole
        self.wire.close(abruptly=not is_whole)
        times, place = [], 0
        for moment, length in self.arrivals:
            times += [moment] * received.count(b"\ndata: {", place, length)
            place = max(place, length - len(b"\ndata: {") + 1)
        timings.num_tokens += len(times)
        timings.first += [times[0] - self.start] if times else []
        timings.between += [after - before for before, after in zip(times, times[1:])]


def prompt(rng: random.Random, num_lines: int) -> str:
    """Unlike any other from its first bytes on, so that no prefix is found again."""
    names = [f"value_{rng.randrange(1 << 20)}" for _ in range(num_lines)]
    bodies = [f"({name}):\n    return {name} + {rng.randrange(1000)}\n" for name in names]
    return "\n".join(f"def f{rng.randrange(1 << 30)}{body}" for body in bodies)


def request_of(rng: random.Random, num_lines: int, max_tokens: int) -> dict:
    return {"prompt": prompt(rng, num_lines), "max_tokens": max_tokens, "stream": True, "seed": rng.randrange(1 << 30)}


def read_all(address: Address, streams: list[Stream], until: float | None, next_stream) -> Timings:
    """Reads `streams` to their end; before `until`, `next_stream` takes the place of each that ended."""
    timings = Timings()
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream.wire.socket, selectors.EVENT_READ, stream)
    while selector.get_map():
        for key, _ in selector.select(timeout=1.0):
            stream = key.data
            if stream.read():
                selector.unregister(stream.wire.socket)
                stream.close_into(timings)
                if until is not None and time.monotonic() < until:
                    stream = next_stream()
                    selector.register(stream.wire.socket, selectors.EVENT_READ, stream)
    return timings


def load_reader(address: Address, seed: int, num_streams: int, num_tokens: int) -> Timings:
    rng = random.Random(seed)
    streams = [Stream(address, request_of(rng, PROMPT_LINES, num_tokens), None) for _ in range(num_streams)]
    return read_all(address, streams, None, None)


def soak_reader(address: Address, seed: int, num_streams: int, seconds: float) -> Timings:
    rng = random.Random(seed)

    def next_stream() -> Stream:
        max_tokens = rng.randrange(8, SOAK_TOKENS_MAX)
        cancel_after = rng.randrange(1, max_tokens) if rng.random() < CANCELLED_SHARE else None
        return Stream(address, request_of(rng, rng.randrange(1, 4 * PROMPT_LINES), max_tokens), cancel_after)

    streams = [next_stream() for _ in range(num_streams)]
    return read_all(address, streams, time.monotonic() + seconds, next_stream)


def shares(num_streams: int) -> list[int]:
    """How many streams each reader gets."""
    num_readers = max(1, min(math.ceil(num_streams / STREAMS_PER_READER), os.cpu_count() or 1))
    return [num_streams // num_readers + (index < num_streams % num_readers) for index in range(num_readers)]


def in_readers(pool, function, address: Address, seed: int, num_streams: int, *more):
    """Starts the readers; `together` waits for them."""
    jobs = [(address, seed + index, share, *more) for index, share in enumerate(shares(num_streams))]
    return pool.starmap_async(function, jobs, chunksize=1)


def together(pending) -> Timings:
    timings = Timings()
    for part in pending.get():
        timings.add(part)
    return timings


# --- memory ----------------------------------------------------------------------------------------------------------


def memory_bytes(server: Server, gpu: int | None) -> int:
    if gpu is None:
        return server.resident_bytes()
    command = ["nvidia-smi", "-i", str(gpu), "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()) << 20


def watch_memory(server: Server, gpu: int | None, is_done) -> list[int]:
    samples = []
    while not is_done():
        samples.append(memory_bytes(server, gpu))
        time.sleep(SAMPLE_EVERY_S)
    return samples


def quarters(samples: list[int]) -> tuple[int, int]:
    """The medians of the first and of the last quarter of what follows the warm-up."""
    steady = samples[int(len(samples) * WARM_UP_SHARE):] or samples
    quarter = max(1, len(steady) // 4)
    return int(statistics.median(steady[:quarter])), int(statistics.median(steady[-quarter:]))


# --- the table -------------------------------------------------------------------------------------------------------


def percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    if not ordered:
        return "-"
    at = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99))
    return " / ".join(f"{1e3 * value:.2f}" for value in at)


def row(what: str, timings: Timings, seconds: float, memory: str, holds: bool) -> tuple[str, ...]:
    replies = f"{timings.num_whole} whole, {timings.num_cancelled} dropped, {len(timings.errors)} failed"
    rate = f"{timings.num_tokens / seconds:.1f}"
    waits = (percentiles(timings.first), percentiles(timings.between))
    return (what, replies, *waits, rate, memory, "yes" if holds else "**NO**")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default=default_server(), help="ananke-serve")
    parser.add_argument("--streams", default="1,16,64,256", help="loads, as numbers of streams (default: 1,16,64,256)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a stream (default: 128)")
    parser.add_argument("--soak", type=float, default=300, help="seconds of the soak (default: 300)")
    parser.add_argument("--soak-streams", type=int, default=64, help="streams of the soak (default: 64)")
    parser.add_argument("--gpu", type=int, help="the GPU whose memory is watched (default: the server's own memory)")
    parser.add_argument("flags", nargs="*", help="flags of the server, after --")
    arguments = parser.parse_args()
    loads = [int(word) for word in arguments.streams.split(",")]
    most = max(*loads, arguments.soak_streams)
    rows = [("load", "replies", "TTFT ms p50 / p95 / p99", "ITL ms p50 / p95 / p99", "tok/s", "memory MiB", "holds")]
    context = multiprocessing.get_context("spawn")
    with Server(arguments.server, ["--max-num-seqs", str(most), *arguments.flags]) as server, context.Pool(
        len(shares(most))
    ) as pool:
        address = (server.host, server.port)
        together(in_readers(pool, load_reader, address, 0, 2, 8))  # warms up
        for number, num_streams in enumerate(loads):
            start = time.monotonic()
            seed = 1000 * (number + 1)
            timings = together(in_readers(pool, load_reader, address, seed, num_streams, arguments.tokens))
            seconds = time.monotonic() - start
            memory = memory_bytes(server, arguments.gpu)
            what = f"{num_streams} stream{'s' if num_streams > 1 else ''}"
            rows.append(row(what, timings, seconds, f"{memory >> 20}", not timings.errors))
            print(rows[-1], *timings.errors[:3], file=sys.stderr, flush=True)
        start = time.monotonic()
        pending = in_readers(pool, soak_reader, address, 9_000_000, arguments.soak_streams, arguments.soak)
        samples = watch_memory(server, arguments.gpu, pending.ready)
        timings = together(pending)
        seconds = time.monotonic() - start
        health = server.settle()
        before, after = quarters(samples)
        growth_max = RESIDENT_GROWTH_MAX_BYTES if arguments.gpu is None else GPU_GROWTH_MAX_BYTES
        holds = not timings.errors and after - before <= growth_max and health["settled"]
        what = f"soak: {arguments.soak_streams} streams, {seconds:.0f} s"
        rows.append(row(what, timings, seconds, f"{before >> 20} to {after >> 20}", holds))
        print("memory MiB:", *(sample >> 20 for sample in samples), file=sys.stderr)
        print("health:", json.dumps(health), *timings.errors[:3], file=sys.stderr, flush=True)
        status = server.stop()
    print(f"the server stopped with {status}")
    print(table(rows))
    return int(any(row[-1] != "yes" for row in rows[1:]) or status != 0)


if __name__ == "__main__":
    sys.exit(main())
