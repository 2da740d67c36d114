#!/usr/bin/env python3
"""Judges Python by the interpreter that runs this: reads JSON lines {"id", "text"}, prints {"id", "parses", "error"}."""

import ast
import json
import sys
import warnings

warnings.simplefilter("ignore")
sys.setrecursionlimit(10_000)
for line in sys.stdin:
    case = json.loads(line)
    try:
        ast.parse(case["text"])
        error = None
    except (SyntaxError, ValueError, MemoryError, RecursionError) as refusal:
        error = f"{type(refusal).__name__}: {refusal}"
    print(json.dumps({"id": case["id"], "parses": error is None, "error": error}), flush=True)
