#!/usr/bin/env python3
"""Writes tests/data/grammars/python_layout.jsonl: random programs of valid lines, and what this Python says of them.

Every line is one that the grammar takes wherever it stands, so that only indentation and the order of clauses decide.
One program in three is as it was built, the others have a line moved, dropped, doubled or indented otherwise.
"""

import ast
import json
import pathlib
import random
import warnings

warnings.simplefilter("ignore")
PATH = pathlib.Path(__file__).parents[2] / "tests/data/grammars/python_layout.jsonl"
SIMPLE = [
    "x", "match = 1", "case = 2", "case(x)", "iffy = 1", "elsewhere()", "match(x)", "f(a,\n\n  b)", "s = '''a\n b'''", "x = 'if:'",
    "x = y \\\n  + z", "except_ = 1", "tryst", "matches[1:]", "r'\\''", "'' 'a'", "async_ = 1", "x; y", "lambda: 0", "{1:\n2}",
]
BLANK = ["", "   ", "# if a:", "      # c", "\t"]
BLOCKS = [
    (["if a:"], True), (["if a:", "else:"], True), (["if a:", "elif b:", "elif c: # d", "else:"], True),
    (["for a in b:"], True), (["for a in b:", "else:"], True), (["while a:", "else:"], True), (["with a:"], True),
    (["try:", "finally:"], True), (["try:", "except:"], True), (["try:", "except A:", "except B:", "else:"], True),
    (["try:", "except A:", "else:", "finally:"], True), (["try:", "except* A:", "except *B:", "finally:"], True),
    (["def f():"], True), (["class A:"], True), (["async def f():"], True), (["async for a in b:", "else:"], True),
    (["async with a:"], True), (["@d\n{0}def f():"], True), (["@d\n\n{0}@e\n{0}class A:"], True), (["@d\n{0}async def f():"], True),
    (["match a:"], False), (["match (a):"], False), (["match a, b:"], False),
]


def block(draw, indent, depth):
    """The lines of one block: [(indent, text)]."""
    lines = []
    for _ in range(draw.randint(1, 3)):
        if depth == 0 or draw.random() < 0.5:
            lines.append((indent, draw.choice(SIMPLE)))
        else:
            lines += compound(draw, indent, depth)
        if draw.random() < 0.15:
            lines.append(("", draw.choice(BLANK)))
    return lines


def compound(draw, indent, depth):
    headers, holds_lines = draw.choice(BLOCKS)
    lines = []
    for header in headers:
        header = header.format(indent)
        inner = indent + draw.choice(["\t"] if "\t" in indent else [" ", "  ", "    ", "\t"] if not indent else [" ", "  ", "   "])
        if not holds_lines:
            lines.append((indent, header))
            for _ in range(draw.randint(1, 2)):
                clause = draw.choice(["case 1:", "case [a, *b] if c:", "case _:", "case (a):"])
                lines += suite(draw, inner, clause, depth - 1)
        else:
            lines += suite(draw, indent, header, depth - 1, inner)
    return lines


def suite(draw, indent, header, depth, inner=None):
    if draw.random() < 0.2:
        return [(indent, header + " x") if "#" not in header else (indent, header.replace("# d", "x # d"))]
    inner = inner or indent + draw.choice(["\t"] if "\t" in indent else [" ", "  "])
    return [(indent, header)] + block(draw, inner, max(depth, 0))


def change(draw, lines):
    lines = list(lines)
    idx = draw.randrange(len(lines))
    kind = draw.randrange(5)
    if kind == 0:
        lines.pop(idx)
    elif kind == 1:
        lines.insert(idx, lines[idx])
    elif kind == 2:
        lines[idx] = (draw.choice(lines)[0], lines[idx][1])
    elif kind == 3:
        lines[idx] = (draw.choice(["", " ", "  ", "\t", "    ", lines[idx][0] + " "]), lines[idx][1])
    else:
        lines.insert(idx, lines.pop(draw.randrange(len(lines))))
    return lines


def main():
    draw = random.Random(4)
    seen = {}
    while len(seen) < 1200:
        lines = block(draw, "", 3)
        if draw.random() < 0.67:
            lines = change(draw, lines)
        text = "\n".join(indent + line for indent, line in lines) + draw.choice(["\n", ""])
        if len(text) > 200 or text in seen:
            continue
        try:
            ast.parse(text)
            seen[text] = True
        except SyntaxError:
            seen[text] = False
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text("".join(json.dumps({"text": text, "accept": accept}) + "\n" for text, accept in seen.items()))


if __name__ == "__main__":
    main()
