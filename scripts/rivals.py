#!/usr/bin/env python3
"""Asks ananke-serve, llama.cpp's server and mistral.rs the same things, on the same SmolLM2, and prints a table.

usage: rivals.py [--server PATH] [--model FILE.gguf] [--only WORD] [--servers NAMES] [--record FILE]
                 [--machine TEXT] [--keep FILE]

What is asked are the rows that a request can show of what servers of this kind differ in: several constraints at once,
forbidden text, JSON Schema, hostile and malformed grammars, tools, holes, bad requests, operating. Each server is asked
in its own documented words (scripts/contest/rows.py), and code judges what was kept (scripts/contest/verdicts.py):

  works               answered, and what was asked holds
  refused             an error says no; whether that is well depends on the row
  accepted, not kept  answered, and the text breaks what was asked
  cut off             ended by max_tokens before it could hold
  failed              an error of the server's own, or no reply at all
  died, hung          the process ended; no reply within the limit (it is started again)
  cannot be asked     the server has no words for it
  not tried           it belongs to HTTP, and mistral.rs is tried by its Python bindings, not its server

llama.cpp's HTTP server comes compiled into the wheel xllamacpp, which is built with llguidance: there it keeps JSON
Schemas by llguidance and GBNF by its own engine. mistral.rs has no wheel with its server. Both go into an environment
in DIR (default: ananke/rivals in the user's cache folder). Each server has two threads and runs while the others are
stopped. Needs python3 with venv and pip, and a built ananke-serve with `ananke` beside it; takes minutes.
"""

import argparse
import datetime
import importlib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONTEST = ROOT / "scripts" / "contest"
PACKAGES = {
    "xllamacpp": "2026.10.11549",
    "mistralrs": "0.9.5",
    "jsonschema": "4.26.0",
}
SUBJECTS = ["combined", "schemas", "hostile", "replies", "tools", "serving"]  # in the order of the table
SECONDS_TO_INSTALL = 900
SHOWN_CHARACTERS = 300
EXCHANGES_SHOWN = 2


def default_folder() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "ananke" / "rivals"


def make_environment(folder: pathlib.Path) -> pathlib.Path:
    """The Python that has the rivals."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python3"
    stamp, wanted = folder / "installed.json", json.dumps(PACKAGES)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing into {folder}", file=sys.stderr, flush=True)
    names = [f"{name}=={version}" for name, version in PACKAGES.items()]
    for command in (
        [sys.executable, "-m", "venv", folder / "venv"],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *names],
    ):
        subprocess.run(command, check=True, timeout=SECONDS_TO_INSTALL)
    stamp.write_text(wanted)
    return python


def fetch_model() -> pathlib.Path:
    """The file that scripts/fetch_model.sh brings."""
    command = [ROOT / "scripts" / "fetch_model.sh", "smollm2"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=SECONDS_TO_INSTALL)
    return pathlib.Path(done.stdout.strip().splitlines()[-1])


def shown(value, length: int = SHOWN_CHARACTERS) -> str:
    """A request or a reply as code in Markdown, cut in its middle."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    if len(text) > length:
        text = f"{text[: length * 2 // 3]} [... {len(text) - length} more ...] {text[-length // 3 :]}"
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}"


def table(results: dict, columns: list[str]) -> list[str]:
    """One line per row, one column per server."""
    lines, part = [], None
    for row, cells in results.items():
        if row.part != part:
            part = row.part
            lines += [
                "",
                f"### {part}",
                "",
                f"| what is asked | {' | '.join(columns)} |",
                "|---" * (len(columns) + 1) + "|",
            ]
        texts = [str(cells[name][0]).replace("|", "\\|") for name in columns]
        lines.append(f"| {row.title.replace('|', chr(92) + '|')} | {' | '.join(texts)} |")
    return lines


def exchanges(results: dict, columns: list[str], has_http: dict[str, bool]) -> list[str]:
    """Of every row and server the requests and replies that decided it."""
    lines = []
    for row, cells in results.items():
        lines += ["", f"### {row.part}: {row.title}", ""]
        for name in columns:
            verdict, asked = cells[name]
            suffix = "" if has_http[name] else " (bindings, not the server)"
            lines.append(f"- **{name}**{suffix}: {verdict.kind}")
            for exchange in asked[:EXCHANGES_SHOWN]:
                request = "" if exchange.request is None else f" {shown(exchange.request)}"
                status = exchange.status if exchange.status is not None else exchange.outcome
                lines.append(f"  - `{exchange.method} {exchange.path}`{request}")
                lines.append(f"    {status} after {exchange.seconds:.2f} s: {shown(exchange.gist())}")
    return lines


def run(args: argparse.Namespace) -> int:
    sys.path.insert(0, str(CONTEST))
    for name in SUBJECTS:
        importlib.import_module(name)
    from rows import ROWS
    from servers import Ananke, LlamaCpp, MistralRs, StartError

    model = (args.model or fetch_model()).resolve()
    servers = [
        Ananke(model, args.server.resolve()),
        LlamaCpp(model, PACKAGES["xllamacpp"]),
        MistralRs(model, PACKAGES["mistralrs"]),
    ]
    servers = [server for server in servers if not args.servers or server.name in args.servers.split(",")]
    wanted = [row for row in ROWS if args.only in f"{row.part}: {row.title}"]
    results: dict = {row: {} for row in wanted}
    versions, missing = {}, []
    for server in servers:
        try:
            with server:
                versions[server.name] = server.version()
                for row in wanted:
                    ask_row(server, row, results, args.keep)
        except StartError as error:
            print(error, file=sys.stderr, flush=True)
            missing.append(server)
    servers = [server for server in servers if server not in missing]
    columns = [server.name for server in servers]
    lines = [f"- {name}: {version}" for name, version in versions.items()] + table(results, columns)
    print("\n".join(lines))
    if args.record:
        details = exchanges(results, columns, {server.name: server.has_http for server in servers})
        date = datetime.date.today().isoformat()
        told = f"Machine: {args.machine}. " if args.machine else ""
        head = [f"# Side by side, {date}", "", f"{told}Model: `{model.name}`.", ""]
        text = "\n".join([*head, *lines, "", "## Requests and replies", *details]) + "\n"
        args.record.write_text(text)
    return 1 if missing else 0


def ask_row(server, row, results: dict, kept: pathlib.Path | None) -> None:
    """One row of one server, into its cell."""
    before = len(server.exchanges)
    verdict = row.run(server)
    asked = server.exchanges[before:]
    results[row][server.name] = verdict, [exchange for exchange in asked if not exchange.helps]
    print(f"{server.name}: {row.title}: {verdict}", file=sys.stderr, flush=True)
    if kept:
        keep(kept, row, verdict, asked)


def keep(path: pathlib.Path, row, verdict, asked: list) -> None:
    """Appends what was said, whole, as a line of JSON per exchange."""
    with path.open("a") as file:
        for exchange in asked:
            value = {"row": f"{row.part}: {row.title}", "verdict": str(verdict), **vars(exchange)}
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(os.environ.get("ANANKE_SERVE", ROOT / "target/release/ananke-serve"))
    parser.add_argument("--server", type=pathlib.Path, default=default)
    parser.add_argument("--model", type=pathlib.Path, help="another GGUF than scripts/fetch_model.sh brings")
    parser.add_argument("--only", default="", help="only rows with this in their part or title")
    parser.add_argument("--servers", default="", help="only these, by name, between commas")
    parser.add_argument("--folder", type=pathlib.Path, default=default_folder(), help="for the rivals' packages")
    parser.add_argument("--record", type=pathlib.Path, help="write the table with requests and replies here")
    parser.add_argument("--machine", help="what the record says of the machine")
    parser.add_argument("--keep", type=pathlib.Path, help="append every request and reply, whole, here")
    args = parser.parse_args()
    python = make_environment(args.folder)
    if pathlib.Path(sys.prefix).resolve() != (args.folder / "venv").resolve():
        os.execv(python, [python, *sys.argv])
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
