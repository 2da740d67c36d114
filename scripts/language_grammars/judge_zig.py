#!/usr/bin/env python3
"""Judges Zig by its compiler: reads JSON lines {"id", "text"}, prints {"id", "parses", "error", "ast_check"}.

`parses` is the verdict of the parser alone, through `zig fmt`. `ast_check` is the first error of `zig ast-check`, or
null: it parses in the same way and then also reports what no grammar can know, unused and undeclared names before all,
and a few things that one can: literals with unknown escapes or leading zeros. Judge a grammar by `parses`.
The compiler is the one that fetch_zig.sh leaves in sources/tools/zig/, or $ZIG.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
ZIG = os.path.abspath(os.environ.get("ZIG") or os.path.join(ROOT, "sources", "tools", "zig", "zig"))
BATCH = 200


def first_errors(folder, names, *flags):
    """The first error of each file, or None."""
    run = subprocess.run([ZIG, "fmt", "--check", *flags, *names], cwd=folder, capture_output=True)
    errors = [None] * len(names)
    for line in run.stderr.decode("utf-8", "replace").splitlines():
        place = re.match(r"(?:\./)?(\d+)\.zig:(\d+:\d+: error: .*)", line)
        if place:  # the other lines are notes and quotations
            idx = int(place[1])
            errors[idx] = errors[idx] or place[2]
    if run.returncode not in (0, 1):
        sys.exit(f"zig fmt: {run.stderr.decode('utf-8', 'replace')}")
    return errors


def judge(cases):
    """For each case the first error of the parser and of ast-check."""
    with tempfile.TemporaryDirectory() as folder:
        for idx, case in enumerate(cases):
            with open(os.path.join(folder, f"{idx}.zig"), "w", encoding="utf-8", newline="") as file:
                file.write(case["text"])
        names = [f"{idx}.zig" for idx in range(len(cases))]
        return zip(first_errors(folder, names), first_errors(folder, names, "--ast-check"))


def main():
    cases = [json.loads(line) for line in sys.stdin]
    for at in range(0, len(cases), BATCH):
        batch = cases[at : at + BATCH]
        for case, (error, ast_check) in zip(batch, judge(batch)):
            verdict = {"id": case["id"], "parses": error is None, "error": error, "ast_check": ast_check}
            print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
