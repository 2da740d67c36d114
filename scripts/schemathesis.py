#!/usr/bin/env python3
"""Is /openapi.json true? Sends what schemathesis makes of it to a running server, and holds every reply against it.

usage: schemathesis.py [--server PATH] [--requests 10000] [--first-seed 1] [--max-examples 60] [--folder DIR]

Starts ananke-serve with the embedded model, an API key and small limits (a window of 256 tokens, 8 tokens where a
request names none, 2 choices), and runs schemathesis over its document with one seed after the other, in all phases
(examples, coverage, fuzzing, stateful), with valid and with invalid bodies, until the server has counted that many
requests. Two judges: schemathesis's own checks (CHECKS below), and the server's counter of replies by route and
status, which is compared here with the statuses that the document names. A status of 500 or more is a failure but for
503, which says that there is no place just now. Each run's output, with the curl line of every failure, stays in DIR
(default: ananke/schemathesis in the user's cache folder), where schemathesis is installed too.

Prints replies by route and status, and the counts; exits with 1 where a check failed, a status is not documented, the
engine had to be restarted, or fewer requests than asked for were made. Needs python3 with venv and pip.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter, defaultdict

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "schemathesis==4.32.5"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
]
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
"""
LIMITS = """
[limits]
default_max_tokens = 8
choices = 2
"""
FLAGS = ["--port", "0", "--offline", "--max-model-len", "256"]
MAX_RUNS = 40
SECONDS_TO_START = 300
SECONDS_PER_RUN = 3600
SECONDS_PER_REQUEST = 120


def default_folder() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "ananke" / "schemathesis"


def install(folder: pathlib.Path) -> pathlib.Path:
    """The program `schemathesis` of an environment in `folder`."""
    venv = folder / "venv"
    if not (venv / "bin" / "python3").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=SECONDS_TO_START)
    pip = [venv / "bin" / "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, PACKAGE], check=True, timeout=3 * SECONDS_TO_START)
    return venv / "bin" / "schemathesis"


class Server:
    """A running ananke-serve with one key; use as a context."""

    def __init__(self, binary: str, folder: pathlib.Path) -> None:
        ananke, keys, limits = pathlib.Path(binary).with_name("ananke"), folder / "keys.toml", folder / "limits.toml"
        command = [ananke, "keys", "new", "--name", "fuzz", "--scopes", "generate,constraints,metrics"]
        made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS_TO_START)
        keys.write_text(made.stdout)
        limits.write_text(LIMITS)
        self.key = re.search(r"ananke_[0-9a-f]{64}", made.stderr)[0]
        self.command = [binary, *FLAGS, "--api-keys", str(keys), "--config", str(limits)]
        self.log = (folder / "server.log").open("w+")

    def __enter__(self) -> "Server":
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        watchdog = threading.Timer(SECONDS_TO_START, self.process.kill)
        watchdog.start()
        lines = (line.strip() for line in self.process.stdout)
        self.url = next(
            (line.removeprefix("listening on ") for line in lines if line.startswith("listening on ")), None
        )
        watchdog.cancel()
        if self.url is None:
            self.log.seek(0)
            sys.exit(f"the server did not start: {self.log.read()[-2000:]}")
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def get(self, path: str) -> str:
        request = urllib.request.Request(f"{self.url}{path}", headers={"authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=SECONDS_PER_REQUEST) as reply:
            return reply.read().decode()

    def replies(self) -> Counter:
        """How many replies of each route and status it has begun."""
        found = Counter()
        for labels, count in re.findall(
            r"^ananke_http_requests_total\{(.*)\} (\d+)$", self.get("/metrics"), re.MULTILINE
        ):
            named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found[named["path"].replace("{*", "{"), int(named["status"])] += int(count)
        return found


def fuzz(program: pathlib.Path, server: Server, seed: int, args: argparse.Namespace) -> bool:
    """One run of schemathesis; whether all its checks passed."""
    config = args.folder / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [program, "--config-file", config, "--no-color", "run", f"{server.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {server.key}", "--checks", ",".join(CHECKS), "--mode", "all"]
    command += ["--seed", str(seed), "--max-examples", str(args.max_examples), "--continue-on-failure"]
    command += ["--generation-database", "none", "--request-timeout", str(SECONDS_PER_REQUEST)]
    with (args.folder / f"seed-{seed}.txt").open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, timeout=SECONDS_PER_RUN, cwd=args.folder
        )
    return done.returncode == 0


def documented(server: Server) -> dict[str, set[int]]:
    """The statuses that the document names, by path."""
    paths = json.loads(server.get("/openapi.json"))["paths"]
    return {
        path: {int(status) for operation in operations.values() for status in operation["responses"]}
        for path, operations in paths.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=os.environ.get("ANANKE_SERVE", str(ROOT / "target/release/ananke-serve")))
    parser.add_argument("--requests", type=int, default=10_000, help="how many at least")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--max-examples", type=int, default=60, help="of each operation in each run")
    parser.add_argument("--folder", type=pathlib.Path, default=default_folder())
    args = parser.parse_args()
    args.folder = args.folder.resolve()
    args.folder.mkdir(parents=True, exist_ok=True)
    program = install(args.folder)
    failed, seeds = [], range(args.first_seed, args.first_seed + MAX_RUNS)
    with tempfile.TemporaryDirectory() as made, Server(args.server, pathlib.Path(made)) as server:
        known, before, replies = documented(server), server.replies(), Counter()
        for num_runs, seed in enumerate(seeds, 1):
            if not fuzz(program, server, seed, args):
                failed.append(seed)
            replies = server.replies() - before
            print(f"seed {seed}: {replies.total()} requests in all", file=sys.stderr, flush=True)
            if replies.total() >= args.requests:
                break
        health = json.loads(server.get("/health"))
    return report(replies, known, failed, num_runs, health, args)


def report(replies, known, failed, num_runs, health, args) -> int:
    """Prints the table and the counts; the exit status."""
    by_route = defaultdict(dict)
    for (route, status), count in replies.items():
        by_route[route][status] = count
    print("| route | replies | by status | not documented |\n|---|---|---|---|")
    num_unknown = num_faults = 0
    for route, statuses in sorted(by_route.items()):
        # What is no route has no entry: only 404 and, without a key, 401 are right there.
        unknown = sorted(set(statuses) - known.get(route, {401, 404}))
        num_unknown += sum(statuses[status] for status in unknown)
        num_faults += sum(count for status, count in statuses.items() if status >= 500 and status != 503)
        told = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        print(f"| `{route}` | {sum(statuses.values())} | {told} | {', '.join(map(str, unknown)) or '-'} |")
    num_busy = sum(count for (_, status), count in replies.items() if status == 503)
    print(
        f"\n{replies.total()} requests in {num_runs} runs of {PACKAGE}; {len(failed)} runs with a failed check {failed or ''}"
    )
    print(f"{num_unknown} replies with an undocumented status, {num_faults} server errors, {num_busy} times 503")
    print(f"engine restarts: {health['restarts']}; outputs in {args.folder}")
    is_good = not failed and not num_unknown and not num_faults and not health["restarts"]
    return 0 if is_good and replies.total() >= args.requests else 1


if __name__ == "__main__":
    sys.exit(main())
