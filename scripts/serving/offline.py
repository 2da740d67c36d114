#!/usr/bin/env python3
"""Shows that a server with `--offline` asks nobody: by its system calls, and in a network that has loopback alone.

    scripts/serving/offline.py --server PATH [--python PYTHON] [--plant]

The server runs under strace while requests of every kind are sent. In the log no `connect`, `sendto`, `sendmsg` or
`sendmmsg` may name an internet address other than loopback, no name may be looked up (by a resolver's files, sockets or
port), and nothing may go through io_uring, which strace does not see. That the judge would notice is shown first: a
program that does all of this on purpose runs under the same strace, and each of its calls must be found.

Then scripts/e2e.py runs in a network namespace of its own, in which loopback is the only interface. `--python` is an
interpreter with the packages that e2e.py needs; scripts/check.sh makes one in ~/.cache/ananke/venv.

`--plant` puts the calls of that program into the server's log; the script must then fail.

Needs strace, unshare and ip (Debian: strace, util-linux, iproute2). Exit status 1 if a claim does not hold.
"""

import argparse
import collections
import ipaddress
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Iterator

from served import ROOT, Claims, Server, default_server, table

VENV_PYTHON = pathlib.Path.home() / ".cache/ananke/venv/bin/python3"
STRACE = ["strace", "-f", "-qq", "-e", "trace=%network,open,openat,openat2,io_uring_setup"]
SENDING = ("connect", "sendto", "sendmsg", "sendmmsg")
OPENING = ("connect", "open", "openat", "openat2")
# A line that goes on after another thread's ("<... connect resumed>") names no call: where it began, its arguments are.
CALL = re.compile(r"\d+ +(\w+)\(")
ADDRESS = re.compile(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
RESOLVERS = re.compile(
    r"/etc/(?:resolv\.conf|nsswitch\.conf|hosts|gai\.conf)|libnss_|libresolv|nscd/socket|io\.systemd\.Resolve"
)
# Addresses are of the blocks that are set apart for documentation.
PLANTED = """
import socket
for family, address in [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as one:
            one.setblocking(False)
            for call in (
                lambda: kind == socket.SOCK_DGRAM and one.sendto(b"x", (address, 9)),
                lambda: kind == socket.SOCK_DGRAM and one.sendmsg([b"x"], [], 0, (address, 9)),
                lambda: one.connect((address, 9)),
            ):
                try:
                    call()
                except OSError:
                    pass
try:
    socket.getaddrinfo("host.invalid", 80)
except OSError:
    pass
"""
NUMBER = {"type": "integer"}
SCHEMA = {"type": "object", "properties": {"id": NUMBER}, "required": ["id"], "additionalProperties": False}
WANTED = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
ASKED = [{"role": "user", "content": "The weather in Rome?"}]
SOURCE = "interface Point { x: number; y: number }"
REQUESTS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/health", None),
    ("GET", "/metrics", None),
    ("GET", "/v1/models", None),
    ("GET", "/openapi.json", None),
    ("POST", "/v1/completions", {"prompt": "def f(", "seed": 1, "n": 2, "logprobs": 1}),
    ("POST", "/v1/completions", {"prompt": "def f(", "stream": True}),
    ("POST", "/v1/completions", {"prompt": "user = ", "max_tokens": 64, "response_format": WANTED}),
    ("POST", "/v1/completions", {"prompt": "x", "structured_outputs": {"regex": "[a-z]{4}"}}),
    ("POST", "/v1/completions", {"prompt": "x", "structured_outputs": {"grammar": 'root ::= "a" [0-9]+'}}),
    ("POST", "/v1/completions", {"prompt": "p = ", "context": {"source": SOURCE, "language": "typescript"}}),
    ("POST", "/v1/completions", {"prompt": "def add(a, b):\n    ", "suffix": "\n\nprint(add(1, 2))\n"}),
    ("POST", "/v1/chat/completions", {"messages": ASKED, "max_tokens": 32}),
    ("POST", "/v1/chat/completions", {"messages": ASKED, "tools": [WEATHER], "tool_choice": "required"}),
    ("POST", "/v1/responses", {"input": "Hello", "max_output_tokens": 16}),
    ("POST", "/generate", {"prompt": "def f", "max_tokens": 8}),
    ("POST", "/infill", {"input_prefix": "def f(", "input_suffix": "):\n    pass\n", "n_predict": 8}),
    ("POST", "/v1/tokenize", {"prompt": "def f():"}),
    ("POST", "/v1/constraints/extract", {"source": SOURCE, "file": "point.ts"}),
    ("POST", "/v1/constraints/validate", {"texts": ['{"id": 1}'], "ir": {"json_schema": SCHEMA}}),
]


def offences(lines: list[str]) -> dict[str, list[str]]:
    """The calls of a log of strace by what they do that a server without a network would not."""
    found = collections.defaultdict(list)
    for line in lines:
        for kind in kinds_of(line):
            found[kind].append(line)
    return found


def kinds_of(line: str) -> Iterator[str]:
    call = CALL.match(line)
    if not call:
        return
    if call[1] == "io_uring_setup":
        yield "io_uring"
    if call[1] in OPENING and RESOLVERS.search(line):
        yield "look-up"
    if call[1] in SENDING:
        if "htons(53)" in line:
            yield "look-up"
        for found in ADDRESS.finditer(line):
            if not is_loopback(found[1]):
                yield call[1]


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def planted_calls(folder: str) -> list[str]:
    """What strace says of a program that does what a server must not."""
    log = pathlib.Path(folder) / "planted"
    subprocess.run([*STRACE, "-o", str(log), sys.executable, "-S", "-c", PLANTED], check=True, timeout=120)
    return log.read_text(errors="replace").splitlines()


def trace_server(args: argparse.Namespace, folder: str, claims: Claims) -> None:
    planted = planted_calls(folder)
    noticed = offences(planted)
    kinds = {"connect", "sendto", "sendmsg", "look-up"}
    said = ", ".join(f"{len(calls)} {kind}" for kind, calls in sorted(noticed.items()))
    claims.add("the judge notices what a planted program does", said, kinds <= noticed.keys())

    log = pathlib.Path(folder) / "server"
    replies = []
    # -D: the process that is started becomes the server, not strace.
    with Server(args.server, prefix=[*STRACE, "-D", "-o", str(log)]) as server:
        for method, path, value in REQUESTS:
            status, body = server.ask(method, path, value)
            replies.append((f"{method} {path}", ", ".join(value or {}), status))
            if status != 200:
                print(f"note: {method} {path} {json.dumps(value)}: {status} {body[:400]}", file=sys.stderr)
        stopped = server.stop()
    print(table([("request", "fields", "status"), *replies]) + "\n")
    lines = log.read_text(errors="replace").splitlines()
    calls = collections.Counter(found[1] for line in lines if (found := CALL.match(line)))
    print("system calls: " + ", ".join(f"{count} {call}" for call, count in calls.most_common()) + "\n")
    num_answered = sum(status == 200 for *_, status in replies)
    claims.add("requests answered under strace", f"{num_answered} of {len(replies)}", num_answered == len(replies))
    # A log without these would be of another process, or of none.
    is_seen = calls["accept4"] >= len(replies) and calls["listen"] == 1 and stopped == 0
    claims.add("strace saw the server listen and accept", f"{calls['accept4']} times", is_seen)
    found = offences([*lines, *planted] if args.plant else lines)
    for kind in (*SENDING, "look-up", "io_uring"):
        what = f"`{kind}` to an internet address" if kind in SENDING else f"{kind} of any kind"
        claims.add(f"no {what}", (found[kind] or ["none"])[0][:120].replace("|", "\\|"), not found[kind])


def run_without_network(args: argparse.Namespace, claims: Claims) -> None:
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    links = subprocess.run([*alone, "ip", "-oneline", "link"], capture_output=True, text=True)
    if links.returncode != 0:
        sys.exit(f"no network namespace can be made: {links.stderr}")
    names = re.findall(r"^\d+: ([^:@]+)", links.stdout, re.MULTILINE)
    claims.add("interfaces in the namespace", ", ".join(names), names == ["lo"])
    client_test, server = ROOT / "scripts/e2e.py", pathlib.Path(args.server).resolve()
    command = [*alone, str(args.python), str(client_test), "--server", str(server)]
    done = subprocess.run(command, capture_output=True, text=True)
    last = (done.stdout.splitlines() or ["nothing"])[-1]
    passed = re.fullmatch(r"(\d+) passed, 0 failed", last)
    if not passed or done.returncode != 0:
        print(f"note: {done.stdout[-3000:]}\n{done.stderr[-3000:]}", file=sys.stderr)
    claims.add("the whole client test there", last, bool(passed and int(passed[1])) and done.returncode == 0)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=default_server())
    parser.add_argument("--python", default=VENV_PYTHON if VENV_PYTHON.exists() else sys.executable)
    parser.add_argument("--plant", action="store_true", help="put forbidden calls into the log, so that this must fail")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    packages = {"strace": "strace", "unshare": "util-linux", "ip": "iproute2"}
    if missing := [package for program, package in packages.items() if not shutil.which(program)]:
        sys.exit(f"missing Debian packages: {', '.join(missing)}; `apt-get install` brings them")
    claims = Claims()
    with tempfile.TemporaryDirectory() as folder:
        trace_server(args, folder, claims)
    run_without_network(args, claims)
    return claims.finish()


if __name__ == "__main__":
    sys.exit(main())
