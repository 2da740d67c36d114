#!/usr/bin/env python3
"""Writes the rules that hold inside brackets in Python's grammar from those that hold outside.

    inside_brackets.py [--check]        rewrites src/braid/grammars/python/base.lark; --check only compares

Every rule and terminal of the section outside gets the suffix _i or _I; a terminal with the suffix is the one without,
followed by GAP_I, and one that ends in blanks (_W) ends in GAPS_I.
"""

import pathlib
import re
import sys

PATH = pathlib.Path(__file__).parents[2] / "src/braid/grammars/python/base.lark"
OUTSIDE = "// Expressions outside brackets.\n"
INSIDE = "// The same inside brackets (written by inside_brackets.py).\n"
END = "// Only inside brackets.\n"


def suffixed(name):
    return name if name.lower().endswith("_i") else name + ("_I" if name.isupper() else "_i")


def main():
    text = PATH.read_text()
    head, rest = text.split(OUTSIDE)
    outside, rest = rest.split(INSIDE)
    tail = rest.split(END)[1]
    rules = [line for line in outside.split("\n") if re.match(r"[a-z]", line)]
    own = {line.split(":")[0] for line in rules}
    inside = []
    for line in rules:
        line = re.sub(r"[a-z]\w*", lambda word: suffixed(word.group()) if word.group() in own else word.group(), line)
        inside.append(re.sub(r"\b[A-Z]\w*\b", lambda word: suffixed(word.group()), line))
    used = sorted(set(re.findall(r"\b[A-Z]\w*_I\b", "\n".join(inside) + tail)) - {"GAP_I", "GAPS_I"})
    for name in used:
        bare = name[:-2]
        if not re.search(rf"^{name}:", tail, re.M):
            definition = re.search(rf"^{bare}: (.*)$", head + outside + tail, re.M).group(1)
            inside.append(f"{name}: {definition.replace('BLANKS', 'GAPS_I') if bare.endswith('_W') else bare + ' GAP_I'}")
    new = head + OUTSIDE + outside + INSIDE + "\n".join(inside) + "\n\n" + END + tail
    if "--check" in sys.argv:
        sys.exit(0 if new == text else f"{PATH} is not what the rules outside brackets say")
    PATH.write_text(new)


if __name__ == "__main__":
    main()
