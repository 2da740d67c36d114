#!/usr/bin/env python3
"""Runs real clients against ananke-serve and prints what each of their calls comes to.

usage: run.py [--server PATH] [--model PATH] [--only WORD] [--folder DIR] [--table FILE]

Four suites talk to one server that asks for API keys and has a profile:
  openai, Python   python_openai.py: OpenAI's client, whole, streamed and asynchronous
  openai, Node     node_openai.mjs: OpenAI's client for Node, with its helpers
  LangChain        langchain_calls.py: langchain-openai's chat model, completion model and embeddings
  editors          editors.py: what plug-ins that fill in the middle send, with the fields and headers of their sources

Every call is one row: client, call, what it has to come to and what it came to, `works` or `refused STATUS CODE`. A row
that works asserts what has to be true of its answer; JSON is held against its schema by jsonschema or Ajv, which share
nothing with the server, Python by `ast`. A refused row has the code that the documentation promises. The table is
Markdown; the last line counts, and the exit status is 1 where a row is not what it has to be.

The server is target/release/ananke-serve (or $ANANKE_SERVE), with `ananke` beside it; without --model it runs the
embedded model. Needs python3 with venv and pip, node and npm; packages go into an environment in DIR (default:
ananke/clients in the user's cache folder). Takes minutes, since some rows wait: for a limit per minute, for timeouts.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parent
ROOT = SCRIPTS.parent
PACKAGES = {
    "openai": "3.54.0",
    "langchain-openai": "1.7.3",
    "langchain-core": "1.7.2",
    "jsonschema": "4.26.0",
    "pydantic": "2.14.3",
    "prometheus-client": "0.26.0",  # e2e.py reads metrics with it
}
NODE_PACKAGES = {"openai": "7.57.0", "zod": "4.6.7", "ajv": "8.20.0"}
SECONDS_TO_INSTALL = 900
SECONDS_FOR_NODE = 1800
NOTE_CHARACTERS = 110
PROFILES = '[profile.no-urls]\nsecurity = "urls=text"\n'
# Name of each key, its scopes, and what stands beside them in its entry.
KEYS = [
    ("main", "generate,constraints", ""),
    ("metrics", "metrics", ""),
    ("slow", "generate", "requests_per_minute = 4\n"),
]


def default_folder() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "ananke" / "clients"


def make_environment(folder: pathlib.Path) -> pathlib.Path:
    """The Python with the packages of this script in `folder`, and beside it those of Node."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python3"
    manifest = {"private": True, "dependencies": NODE_PACKAGES}
    stamp, wanted = folder / "installed.json", json.dumps([PACKAGES, NODE_PACKAGES])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing clients into {folder}", file=sys.stderr, flush=True)
    names = [f"{name}=={version}" for name, version in PACKAGES.items()]
    (folder / "package.json").write_text(json.dumps(manifest))
    for command in (
        [sys.executable, "-m", "venv", folder / "venv"],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *names],
        ["npm", "install", "--silent", "--no-audit", "--no-fund"],
    ):
        subprocess.run(command, cwd=folder, check=True, timeout=SECONDS_TO_INSTALL)
    stamp.write_text(wanted)
    return python


def make_keys(server: str, path: pathlib.Path) -> dict[str, str]:
    """Writes a file of keys, and returns the keys by name."""
    ananke, keys = pathlib.Path(server).with_name("ananke"), {}
    with path.open("w") as file:
        for name, scopes, limits in KEYS:
            command = [ananke, "keys", "new", "--name", name, "--scopes", scopes]
            made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            keys[name] = re.search(r"ananke_[0-9a-f]{64}", made.stderr)[0]
            file.write(f"{made.stdout}{limits}\n")
    return keys


def node_rows(target, folder: pathlib.Path, word: str) -> list:
    """The rows of Node's suite, which prints one as JSON on each line."""
    from rows import Row

    # Packages are looked for beside the program, not where it is started.
    program = folder / "node_openai.mjs"
    program.write_text((HERE / "node_openai.mjs").read_text())
    told = {"url": target.url, "model": target.model, "key": target.keys["main"], "word": word}
    done = subprocess.run(
        ["node", program],
        input=json.dumps(told),
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS_FOR_NODE,
        check=True,
    )
    return [Row("openai, Node", **json.loads(line)) for line in done.stdout.splitlines()]


def run(args: argparse.Namespace) -> int:
    """All suites against one server; the exit status."""
    sys.path.insert(0, str(SCRIPTS))
    import editors
    import langchain_calls
    import python_openai
    from e2e import Server
    from rows import Target, cut

    with tempfile.TemporaryDirectory() as made:
        keys_file, profiles = pathlib.Path(made) / "keys.toml", pathlib.Path(made) / "profiles.toml"
        profiles.write_text(PROFILES)
        keys = make_keys(args.server, keys_file)
        flags = ["--api-keys", str(keys_file), "--profiles", str(profiles)]
        with Server(args.server, args.model, flags, keys["main"]) as server:
            target = Target(server.url, server.model, keys, server.client)
            rows = []
            for suite in (python_openai.SUITE, langchain_calls.SUITE, editors.SUITE):
                rows += suite.run(target, args.only)
            rows += node_rows(target, args.folder, args.only)
            target.settle()
    print_table(rows, cut, args.table)
    num_bad = sum(not row.is_good for row in rows)
    for client in dict.fromkeys(row.client for row in rows):
        own = [row for row in rows if row.client == client]
        num_works = sum(row.outcome == "works" for row in own)
        print(
            f"{client}: {len(own)} calls, {num_works} work, {sum(row.outcome[:7] == 'refused' for row in own)} refused"
        )
    print(f"{len(rows)} rows, {num_bad} not as they have to be")
    return num_bad != 0 or not rows


def print_table(rows: list, cut, path: pathlib.Path | None) -> None:
    """The table on standard output, and in a file where one is named."""
    lines = ["| client | call | outcome | what was said |", "|---|---|---|---|"]
    for row in rows:
        outcome = row.outcome if row.is_good else f"**{row.outcome}**, has to be {row.expected}"
        lines.append(f"| {row.client} | {cut(row.call, 200)} | {outcome} | {cut(row.note, NOTE_CHARACTERS)} |")
    print("\n".join(lines))
    if path:
        path.write_text("\n".join(lines) + "\n")
    for row in rows:
        if not row.is_good:
            print(f"\n{row.client}: {row.call}\n{row.note[:2000]}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=os.environ.get("ANANKE_SERVE", str(ROOT / "target/release/ananke-serve")))
    parser.add_argument("--model", help="a model folder or .gguf file instead of the embedded model")
    parser.add_argument("--only", default="", help="only rows with this in their client or call")
    parser.add_argument("--folder", type=pathlib.Path, default=default_folder(), help="for the clients' packages")
    parser.add_argument("--table", type=pathlib.Path, help="also write the table here")
    args = parser.parse_args()
    python = make_environment(args.folder)
    if pathlib.Path(sys.prefix).resolve() != (args.folder / "venv").resolve():
        os.execv(python, [python, *sys.argv])
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
