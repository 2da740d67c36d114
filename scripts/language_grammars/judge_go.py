#!/usr/bin/env python3
"""Judges Go by gofmt: reads JSON lines {"id", "text"}, prints {"id", "parses", "error"}.

gofmt is the one that fetch_go.sh leaves in sources/tools/go/, or $GOFMT. It is given files, because what it reads from
standard input may also be a fragment. It parses and does nothing more: no types, no declared names.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOFMT = os.environ.get("GOFMT") or os.path.join(ROOT, "sources", "tools", "go", "gofmt")
BATCH = 200


def judge(cases):
    """The first error of each case, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for idx, case in enumerate(cases):
            with open(os.path.join(folder, f"{idx}.go"), "w", encoding="utf-8", newline="") as file:
                file.write(case["text"])
        names = [f"{idx}.go" for idx in range(len(cases))]
        run = subprocess.run([GOFMT, "-l", *names], cwd=folder, capture_output=True, text=True)
    errors = [None] * len(cases)
    for line in run.stderr.splitlines():
        place = re.match(r"(\d+)\.go:(\d+:\d+: .*)", line)
        if place:  # the other lines are further lines of a message
            idx = int(place[1])
            errors[idx] = errors[idx] or place[2]
    if run.returncode != 0 and not any(errors):
        sys.exit(f"gofmt: {run.stderr}")
    return errors


def main():
    cases = [json.loads(line) for line in sys.stdin]
    for at in range(0, len(cases), BATCH):
        batch = cases[at : at + BATCH]
        for case, error in zip(batch, judge(batch)):
            print(json.dumps({"id": case["id"], "parses": error is None, "error": error}), flush=True)


if __name__ == "__main__":
    main()
