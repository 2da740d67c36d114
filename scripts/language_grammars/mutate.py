#!/usr/bin/env python3
"""Mutates source files by one token each, to see how exact a language grammar is.

    mutate.py LANGUAGE --seed S --count N FILES...

LANGUAGE is typescript, python, rust, go or zig. Prints N JSON lines {"id", "text"}: a whole file of at most
`--max-lines` lines in which one token was deleted, inserted (a copy of a random token of the same file), swapped with
its neighbour, or duplicated. Comments and whitespace are no tokens and stay where they are; a space is put where two
tokens would otherwise become another one. The same arguments give the same lines, whatever the order of the files.
"""

import argparse
import json
import random
import re
import sys

WORD = r"[^\W\d]\w*"
NUMBER = r"0[xXoObB][\w]+|(?:\d[\d_]*(?:\.\d[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?\w*"
LINE_COMMENT = r"//[^\n]*"
BLOCK_COMMENT = r"/\*(?s:.*?)\*/"
DOUBLE = r'"(?:[^"\\\n]|\\(?s:.))*"'
SINGLE = r"'(?:[^'\\\n]|\\(?s:.))*'"


def operators(words):
    """The words as one pattern, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words.split(), key=lambda word: (-len(word), word)))


# For each language: what is skipped, then the kinds of tokens in the order they are tried.
LANGUAGES = {
    "typescript": {
        "skip": rf"#![^\n]*|{LINE_COMMENT}|{BLOCK_COMMENT}",
        "tokens": [
            ("string", rf"{DOUBLE}|{SINGLE}"),
            ("number", NUMBER),
            ("word", r"[#@]?(?:[^\W\d]|\$)[\w$]*"),
            (
                "operator",
                operators(
                    "{ } ( ) [ ] ; , < > <= >= == != === !== + - * / % ** ++ -- << >> >>> & | ^ ! ~ && || ?? ? ?. : = "
                    "+= -= *= /= %= **= <<= >>= >>>= &= |= ^= &&= ||= ??= => . ... @"
                ),
            ),
        ],
    },
    "python": {
        "skip": r"#[^\n]*|\\\n",
        "tokens": [
            ("string", rf'[rRbBuUfF]{{0,2}}(?:"""(?:[^\\]|\\(?s:.))*?"""|\'\'\'(?:[^\\]|\\(?s:.))*?\'\'\'|{DOUBLE}|{SINGLE})'),
            ("number", NUMBER),
            ("word", WORD),
            (
                "operator",
                operators(
                    "+ - * ** / // % @ << >> & | ^ ~ := < > <= >= == != ( ) [ ] { } , : . ; = -> += -= *= /= //= %= @= "
                    "&= |= ^= >>= <<= **= ..."
                ),
            ),
        ],
    },
    "rust": {
        "skip": rf"{LINE_COMMENT}|{BLOCK_COMMENT}",
        "tokens": [
            ("string", rf'(?:br|cr|r)(#*)"(?s:.*?)"\1|[bc]?{DOUBLE}'),
            ("character", r"b?'(?:[^'\\\n]|\\(?:u\{[0-9a-fA-F_]*\}|x..|.))'"),
            ("lifetime", rf"'{WORD}"),
            ("number", r"0[xob]\w+|\d[\d_]*(?:\.\d[\d_]*|\.(?![.\w]))?(?:[eE][+-]?\d[\d_]*)?\w*"),
            ("word", rf"(?:r#)?{WORD}"),
            (
                "operator",
                operators(
                    "+ - * / % ^ ! & | && || << >> += -= *= /= %= ^= &= |= <<= >>= = == != > < >= <= @ . .. ... ..= , ; : "
                    ":: -> => # $ ? ~ { } ( ) [ ]"
                ),
            ),
        ],
    },
    "go": {
        "skip": rf"{LINE_COMMENT}|{BLOCK_COMMENT}",
        "tokens": [
            ("string", rf"{DOUBLE}|`[^`]*`|{SINGLE}"),
            ("number", NUMBER),
            ("word", WORD),
            (
                "operator",
                operators(
                    "+ - * / % & | ^ << >> &^ += -= *= /= %= &= |= ^= <<= >>= &^= && || <- ++ -- == < > = ! ~ != <= >= := "
                    "... ( ) [ ] { } , ; . :"
                ),
            ),
        ],
    },
    "zig": {
        "skip": LINE_COMMENT,
        "tokens": [
            ("string", rf"{DOUBLE}|\\\\[^\n]*(?:\n[ \t]*\\\\[^\n]*)*|{SINGLE}|@{DOUBLE}"),
            ("number", r"0[xob][\w.]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d[\d_]*)?"),
            ("word", rf"@?{WORD}"),
            (
                "operator",
                operators(
                    "+ - * / % ** ++ || << >> <<| +% -% *% +| -| *| += -= *= /= %= <<= >>= &= |= ^= +%= -%= *%= +|= -|= *|= "
                    "<<|= = == != < > <= >= => -> ! ~ & | ^ ? . .. ... .* .? : ; , ( ) [ ] { }"
                ),
            ),
        ],
    },
}


def nested_comment_end(text, at):
    """Rust's comments nest: the place after the one that begins at `at`."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[at:]):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return at + mark.end()
    return len(text)


def template_end(text, at):
    """The place after the template that begins at `at`, with the templates in its substitutions."""
    at += 1
    depth = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif depth == 0 and char == "`":
            return at + 1
        elif depth == 0 and text.startswith("${", at):
            depth, at = 1, at + 1
        elif depth > 0 and char in "{}":
            depth += 1 if char == "{" else -1
        elif depth > 0 and char == "`":
            at = template_end(text, at) - 1
        at += 1
    return at


REGEX_LITERAL = re.compile(r"/(?![*/])(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/\w*")
BEFORE_REGEX = set("return typeof instanceof in of new delete void throw case do else yield await".split())


def tokens(text, language):
    """[(start, end)] of the tokens of a text; bytes that begin none are passed over."""
    spec = LANGUAGES[language]
    skip = re.compile(rf"\s+|{spec['skip']}")
    kinds = [(kind, re.compile(pattern)) for kind, pattern in spec["tokens"]]
    found, at, before = [], 0, ("operator", "")
    while at < len(text):
        if language == "rust" and text.startswith("/*", at):
            at = nested_comment_end(text, at)
            continue
        blank = skip.match(text, at)
        if blank:
            at = blank.end()
            continue
        end, kind = at, None
        if language == "typescript" and text[at] == "`":
            end, kind = template_end(text, at), "string"
        elif language == "typescript" and text[at] == "/":
            is_operand = before[0] in ("number", "string") or before[1] in (")", "]", "}")
            is_operand = is_operand or (before[0] == "word" and before[1] not in BEFORE_REGEX)
            literal = None if is_operand else REGEX_LITERAL.match(text, at)
            if literal:
                end, kind = literal.end(), "string"
        if kind is None:
            for kind, pattern in kinds:
                match = pattern.match(text, at)
                if match and match.end() > at:
                    end = match.end()
                    break
            else:
                at += 1
                continue
        found.append((at, end))
        before = (kind, text[at:end])
        at = end
    return found


def is_word(char):
    return char.isalnum() or char in "_$@#'\"`"


def glue(left, right):
    """Both texts, with a space between where they would fuse."""
    if left and right and not left[-1].isspace() and not right[0].isspace() and is_word(left[-1]) == is_word(right[0]):
        return left + " " + right
    return left + right


def mutate(text, spans, draw):
    """One mutation of a text: (kind, place, new text)."""
    kind = draw.choice(("delete", "insert", "swap", "duplicate"))
    idx = draw.randrange(len(spans) - (kind == "swap"))
    start, end = spans[idx]
    token = text[start:end]
    if kind == "delete":
        return kind, start, glue(text[:start], text[end:])
    if kind == "duplicate":
        return kind, start, glue(text[:start], token) + " " + token + text[end:]
    if kind == "insert":
        other = text[slice(*draw.choice(spans))]
        return kind, start, glue(text[:start], other) + " " + text[start:]
    next_start, next_end = spans[idx + 1]
    swapped = glue(text[:start], text[next_start:next_end])
    swapped = glue(swapped, text[end:next_start]) if end < next_start else swapped
    return kind, start, glue(glue(swapped, token), text[next_end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("language", choices=sorted(LANGUAGES))
    parser.add_argument("files", nargs="+")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--max-lines", type=int, default=300)
    args = parser.parse_args()
    sources = []
    for path in sorted(set(args.files)):
        try:
            text = open(path, encoding="utf-8", newline="").read()
        except UnicodeDecodeError:
            continue
        spans = tokens(text, args.language) if text.count("\n") <= args.max_lines else []
        if len(spans) >= 2:
            sources.append((path, text, spans))
    if not sources:
        sys.exit(f"no file of at most {args.max_lines} lines with two tokens")
    draw = random.Random(args.seed)
    seen, misses = set(), 0
    while len(seen) < args.count:
        path, text, spans = draw.choice(sources)
        kind, at, mutant = mutate(text, spans, draw)
        if mutant == text or mutant in seen:
            misses += 1
            if misses > 100 * args.count:
                sys.exit(f"only {len(seen)} different mutations found")
            continue
        seen.add(mutant)
        print(json.dumps({"id": f"{path}:{kind}@{at}", "text": mutant}))


if __name__ == "__main__":
    main()
