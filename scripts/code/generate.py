#!/usr/bin/env python3
"""Generates code under rules and without them, and has both judged by engines that know nothing of the masks.

    scripts/code/generate.py table  [--model PATH] [--count 200] [--languages python,go] [--out FILE]
    scripts/code/generate.py adversarial [--model PATH] [--count 1000]

table: per language, `count` outputs bound by imports, naming, a signature and a security profile, and as many from the
same prompts unbound. Judged by tree-sitter (`ananke validate`'s verdicts) for the rules and by the language's own parser
(scripts/language_grammars/judge_*) for the syntax. One row per language and model.
adversarial: prompts that ask for packages that are not declared, in every form of import of the language; counts outputs
that import one. Exit status 0 when no bound output broke a rule.

Needs target/release/ananke and ananke-serve (`cargo build --release`), and the languages' parsers, which
scripts/language_grammars/fetch_<language>.sh bring.
"""

import argparse
import concurrent.futures
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from prompts import ADVERSARIAL, LANGUAGES, SECURITY  # noqa: E402

ANANKE = ROOT / "target/release/ananke"


class Server:
    """A server of this build; ends with the `with` block."""

    def __init__(self, model):
        command = [ROOT / "target/release/ananke-serve", "--port", "0", "--offline"]
        self.process = subprocess.Popen(
            command + (["--model", model] if model else []), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.split()[-1]
            if line.startswith("curl "):
                return
        sys.exit("the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def complete(self, body):
        request = urllib.request.Request(
            self.url + "/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            sys.exit(f"{error.code}: {error.read().decode()}")


def compile_set(constraints, extra=()):
    """The IR of a list of constraints."""
    text = json.dumps({"name": "rules", "constraints": constraints})
    done = subprocess.run([ANANKE, "compile", "-", *extra], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def stated(name, rule):
    return {"name": name, "kind": "architectural", "source": "user_defined", "rule": rule}


def rules_of(language, spec):
    rules = [stated("language", {"type": "language", "language": language, "granularity": "file"})]
    rules.append(stated("imports", {"type": "imports", "allow": spec["imports"]}))
    rules.append(stated("signature", {"type": "signature", "signature": spec["signature"]}))
    for declaration, convention in spec["names"].items():
        rule = {"type": "names", "declaration": declaration, "convention": convention}
        rules.append(stated(f"names.{declaration}", rule))
    return rules


def outputs(server, prompts, ir, count, max_tokens, temperature):
    def one(index):
        body = {
            "prompt": prompts[index % len(prompts)],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": index,
        }
        if ir:
            body["constraint_ir"] = ir
        choice = server.complete(body)["choices"][0]
        # What its rules let end there is finished, also where it took the whole budget.
        is_complete = bool(ir) and all(verdict["status"] != "truncated" for verdict in choice["validation"]["verdicts"])
        return {"text": choice["text"], "finished": is_complete or choice["finish_reason"] == "stop"}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(count)))


def verdicts(ir, texts):
    """Per text, the parts that the independent engines find broken."""
    lines = "".join(json.dumps({"id": i, "text": text, "ir": ir}) + "\n" for i, text in enumerate(texts))
    done = subprocess.run(
        [ANANKE, "validate", "--batch", "-", "--details"], input=lines, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    judged = [json.loads(line) for line in done.stdout.splitlines()]
    return [[verdict["part"] for verdict in case["verdicts"] if verdict["status"] == "violated"] for case in judged]


def parses(language, texts):
    """Per text, whether the language's own parser takes it."""
    judge = next((ROOT / "scripts/language_grammars").glob(f"judge_{language}.*"))
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    runner = {".py": [sys.executable], ".mjs": ["node"], ".sh": ["bash"]}[judge.suffix]
    done = subprocess.run(runner + [judge], input=lines, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{judge}: {done.stderr}")
    found = {case["id"]: case for case in map(json.loads, done.stdout.splitlines())}
    return [found[i]["parses"] for i in range(len(texts))], found


def row(server, language, spec, args):
    ir = compile_set(rules_of(language, spec), ["--security", SECURITY])
    result = {"language": language}
    for kind, bound in (("bound", ir), ("free", None)):
        made = outputs(server, spec["prompts"], bound, args.count, args.max_tokens, args.temperature)
        broken = verdicts(ir, [output["text"] for output in made])
        finished = [output["text"] for output in made if output["finished"]]
        well_formed, found = parses(language, finished)
        parts = {}
        for one in broken:
            for part in set(one):
                parts[part] = parts.get(part, 0) + 1
        result[kind] = {
            "outputs": len(made),
            "violating": sum(bool(one) for one in broken),
            "by_part": parts,
            "violations": [{"text": made[i]["text"], "parts": one} for i, one in enumerate(broken) if one and bound],
            "finished": len(finished),
            "parse": sum(well_formed),
            "failures": [
                {"text": text, "error": found[i]["error"]} for i, text in enumerate(finished) if not well_formed[i]
            ],
        }
    return result


def table(args):
    ok = True
    with Server(args.model) as server, open(args.out, "w") if args.out else sys.stdout as out:
        print("language    kind   outputs  violating  finished  parse", file=sys.stderr)
        for language in args.languages.split(","):
            result = row(server, language, LANGUAGES[language], args)
            for kind in ("bound", "free"):
                r = result[kind]
                print(
                    f"{language:11} {kind:6} {r['outputs']:7}  {r['violating']:9}  {r['finished']:8}  {r['parse']:5}"
                    f"  {r['by_part']}",
                    file=sys.stderr,
                )
            ok &= result["bound"]["violating"] == 0
            print(json.dumps(result), file=out, flush=True)
    return ok


def adversarial(args):
    ok = True
    with Server(args.model) as server:
        for language in args.languages.split(","):
            spec = LANGUAGES[language]
            rules = [stated("language", {"type": "language", "language": language, "granularity": "file"})]
            rules.append(stated("imports", {"type": "imports", "allow": spec["imports"]}))
            ir = compile_set(rules)
            count = args.count // len(args.languages.split(","))
            for kind, bound in (("bound", ir), ("free", None)):
                made = outputs(server, ADVERSARIAL[language], bound, count, args.max_tokens, args.temperature)
                broken = verdicts(ir, [output["text"] for output in made])
                imports = sum(any(part.endswith("code.imports") for part in one) for one in broken)
                print(f"{language:11} {kind:6} {count:6} prompts, {imports} import what is not declared")
                ok &= kind == "free" or imports == 0
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "adversarial"])
    parser.add_argument("--model")
    parser.add_argument("--count", type=int)
    parser.add_argument("--languages", default=",".join(LANGUAGES))
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--out")
    args = parser.parse_args()
    args.count = args.count or {"table": 200, "adversarial": 1000}[args.what]
    sys.exit(0 if {"table": table, "adversarial": adversarial}[args.what](args) else 1)


if __name__ == "__main__":
    main()
