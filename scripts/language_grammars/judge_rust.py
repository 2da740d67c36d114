#!/usr/bin/env python3
"""Judges Rust by the compiler's own parser: reads JSON lines {"id", "text"}, prints {"id", "parses", "error"}.

A text parses if it does in edition 2024 or in edition 2021 (`gen` is a word of 2024, let chains are not in 2021).
Nothing is expanded, resolved or read besides the text. `-Z parse-crate-root-only` needs RUSTC_BOOTSTRAP on a stable
compiler. One compiler runs per text: about 20 ms of processor time each.
"""

import json
import os
import re
import subprocess
import sys

ENVIRONMENT = os.environ | {"RUSTC_BOOTSTRAP": "1"}


def refusal(text, edition):
    """The first error of one edition's parser, None if there is none."""
    command = ["rustc", "-Z", "parse-crate-root-only", "--edition", edition, "--error-format", "short", "--cap-lints=allow", "-"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, env=ENVIRONMENT)
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace")
    error = re.search(r"^\S+: error.*", said, re.MULTILINE)
    if error is None:
        sys.exit(f"rustc ended with {done.returncode}: {said}")
    return error.group()


for line in sys.stdin:
    case = json.loads(line)
    error = refusal(case["text"], "2024")
    if error is not None and refusal(case["text"], "2021") is None:
        error = None
    print(json.dumps({"id": case["id"], "parses": error is None, "error": error}), flush=True)
