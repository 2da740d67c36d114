#!/usr/bin/env python3
"""Words that stand together without the blank they need, judged by the masks and by the languages' own parsers.

    scripts/language_grammars/glued_words.py [LANGUAGE...]

A keyword runs into a name wherever no lexeme of the grammar reads the longer word. Prints each difference between
`ananke validate` and the parser (judge_*); exit status 1 if there is one that is not known. Needs target/release/ananke
and what fetch_sources.sh brings.
"""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "code"))
from generate import ANANKE, parses, stated  # noqa: E402

# The parser takes any name behind `new.`; the grammar knows `target` alone.
KNOWN = {"new.targetx"}

TEXTS = {
    "typescript": [
        "export constx = 1",
        "export defaultx",
        "export functionf(){}",
        "export classA{}",
        "export typeT = 1",
        "export enumE{}",
        "import { x asy } from 'm'",
        "export * asy from 'm'",
        "import * asx from 'm'",
        "export asyncfunction f(){}",
        "export declareconst x: number",
        "class A { staticx = 1 }",
        "class A { getx() {} }",
        "function f(thisx: number) {}",
        "for (constx of y) {}",
        "for (const x ofy) {}",
        "for (const x iny) {}",
        "if (x) {} elsex()",
        "do{}whilex(1)",
        "try {} catchx {}",
        "case1:",
        "switch(x){ casey: 1 }",
        "switch(x){ case1: 1; defaultx: 2 }",
        "let x: keyofT",
        "let x: typeofy",
        "let x: uniquesymbol",
        "let x: readonlystring[]",
        "type A = X extendsY ? 1 : 2",
        "type A = inferX",
        "type A<inT> = 1",
        "function f(x): xis string {}",
        "function f(x): x isstring {}",
        "function f(x): assertsx {}",
        "x asy",
        "new.targetx",
        "export import x = y",
        "abstractclass A{}",
        "export abstractclass A{}",
        "class A extendsB {}",
        "class A implementsB {}",
        "interface A extendsB {}",
        "export exportconst x = 1",
        "throwx",
        "yieldx",
        "awaitx",
        "asyncx => 1",
        "x instanceofy",
        "type A = abstractnew () => 1",
        "enum A{}constenum B{}",
        "export constenum B{}",
    ],
    "rust": [
        "pubfn f() {}",
        "fnf() {}",
        "pub fnf() {}",
        "pub unsafefn f() {}",
        "pub structA;",
        "pub(crate)fn f() {}",
        "pub(incrate) fn f() {}",
        "impl A forB {}",
        "impl A for B whereC: D {}",
        "fn f() { letx = 1; }",
        "fn f() { for x iny {} }",
        "fn f() { for x in y {} elsex }",
        "fn f() { if x {} elseif y {} }",
        "fn f() { loop {} whilex {} }",
        "fn f(mutx: u8) {}",
        "fn f(x: &muty) {}",
        "fn f(x: &'amut y) {}",
        "fn f(x: dynA) {}",
        "fn f(x: implA) {}",
        "fn f() { matchx {} }",
        "fn f() { x asu8 }",
        "fn f() { returnx }",
        "pub traitA {}",
        "pub enumA {}",
        "pub constA: u8 = 1;",
        "pub staticA: u8 = 1;",
        "pub staticmut A: u8 = 1;",
        "pub typeA = u8;",
        "pub modm {}",
        "externcrate a;",
        "extern cratea;",
        "pub usea::b;",
        "use a asb;",
        "unsafeimpl A for B {}",
        "fn f() { asyncmove {} }",
        "fn f() { movex }",
        "fn f(self: Self, refx: u8) {}",
        "impl<constN: usize> A {}",
    ],
    "python": [
        "defx(): pass",
        "classA: pass",
        "asyncdef f(): pass",
        "async deff(): pass",
        "async withx: pass",
        "forx in y: pass",
        "for x iny: pass",
        "whilex: pass",
        "ifx: pass",
        "if x: pass\nelifx: pass",
        "withx asy: pass",
        "with x asy: pass",
        "tryx: pass",
        "try: pass\nexceptE: pass",
        "try: pass\nexcept E asx: pass",
        "returnx",
        "raiseE",
        "raise E fromx",
        "globalx",
        "assertx",
        "delx",
        "lambdax: 1",
        "x = lambdax: 1",
        "x = notx",
        "x = y if z elsew",
        "x = y ifz else w",
        "x = y isnot z",
        "x = y is notz",
        "x = y notin z",
        "x = y not inz",
        "x = awaity",
        "async def f(): awaity",
        "def f(): yieldx",
        "def f(): yield fromx",
        "import a asb",
        "from a importb",
        "from a import b asc",
        "match x:\n  caseA: pass",
        "matchx:\n  case 1: pass",
        "nonlocalx",
        "[x forx in y]",
        "[x for x iny]",
        "[x for x in y ifz]",
        "[x async forx in y]",
        "f(x forx in y)",
        "except* E: pass",
    ],
    "go": [
        "packagep",
        "package p\nfuncf() {}",
        "package p\nvarx int",
        "package p\nvar xint",
        "package p\ntypeT int",
        "package p\ntype Tint",
        "package p\nconstx = 1",
        "package p\nimport\"a\"",
        "package p\nfunc f() { returnx }",
        "package p\nfunc f() { gof() }",
        "package p\nfunc f() { deferf() }",
        "package p\nfunc f() { for rangex {} }",
        "package p\nfunc f() { for x := rangey {} }",
        "package p\nfunc f() { ifx {} }",
        "package p\nfunc f() { if x {} elseif y {} }",
        "package p\nfunc f() { switchx {} }",
        "package p\nfunc f() { switch x { case1: } }",
        "package p\nfunc f() { switch x { casey: } }",
        "package p\nfunc f() { gotox }",
        "package p\nfunc f() { breakx }",
        "package p\nfunc f(x chanint) {}",
        "package p\nfunc f(x <-chanint) {}",
        "package p\nfunc f(xint) {}",
        "package p\ntype T structx",
        "package p\nfunc f() int {}",
        "package p\nimportx \"a\"",
    ],
    "zig": [
        "constx = 1;",
        "pubconst x = 1;",
        "pub constx = 1;",
        "fnf() void {}",
        "pub fnf() void {}",
        "exportfn f() void {}",
        "export fnf() void {}",
        "externfn f() void;",
        "inlinefn f() void {}",
        "pub inlinefn f() void {}",
        "fn f(comptimex: u8) void {}",
        "fn f(x: *constu8) void {}",
        "fn f(x: []constu8) void {}",
        "fn f() void { returnx; }",
        "fn f() u8 { tryx; }",
        "fn f() u8 { return tryx; }",
        "fn f() void { deferx(); }",
        "fn f() void { if (a) b elsec; }",
        "fn f() void { const x = a orelseb; }",
        "fn f() void { const x = a catchb; }",
        "fn f() void { const x = a andb; }",
        "fn f() void { switch (x) { elsey => 1 } }",
        "fn f() void { breakx; }",
        "fn f() void { break :ax; }",
        "const A = externstruct {};",
        "const A = packedstruct {};",
        "const A = struct { comptimex: u8 = 1 };",
        "testx {}",
        "usingnamespacex;",
        "threadlocalvar x: u8 = 1;",
        "fn f() void { varx = 1; }",
        "fn f() void { comptimex(); }",
        "fn f() errorx!void {}",
        "fn f() callconvx void {}",
        "fn f() void { inlinefor (x) |y| {} }",
        "fn f() void { forx {} }",
        "fn f() void { errdeferx(); }",
        "fn f() void { while (x) {} elsey(); }",
        "fn f(noaliasx: u8) void {}",
    ],
}


def masks_accept(language, texts):
    """Per text, whether the masks let it through."""
    rule = {"type": "language", "language": language, "granularity": "file"}
    rules = [{**stated("language", rule), "strength": "hard"}]
    lines = "".join(json.dumps({"id": i, "text": text, "constraints": rules}) + "\n" for i, text in enumerate(texts))
    done = subprocess.run([ANANKE, "validate", "--batch", "-"], input=lines, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [case["masks_accept"] for case in map(json.loads, done.stdout.splitlines())]


def main():
    num_wrong = 0
    for language in sys.argv[1:] or TEXTS:
        texts = TEXTS[language]
        expected, _ = parses(language, texts)
        for text, accept, parse in zip(texts, masks_accept(language, texts), expected):
            if accept != parse:
                print(f"{language}: {text!r} is {'accepted' if accept else 'refused'}")
                num_wrong += text not in KNOWN
        print(f"{language}: {len(texts)} texts")
    return num_wrong > 0


if __name__ == "__main__":
    sys.exit(main())
