#!/usr/bin/env python3
"""The official JSON-Schema-Test-Suite as cases for `ananke validate --batch`, and its verdicts as a table.

    scripts/fetch_json_schema_suite.sh
    scripts/json_schema_suite.py cases > cases.jsonl
    ananke validate --batch cases.jsonl > verdicts.jsonl
    scripts/json_schema_suite.py table verdicts.jsonl

A case's text is the instance with its keys in the order in which the schema names them, since the order of properties
is meaning to a mask, and with integers written without a point. The table counts, for each file of the suite: schemas
supported and refused, valid instances accepted and refused, invalid ones accepted and refused. Its exit status is 1 if
an invalid instance was accepted, or a valid one refused that is not in REFUSED_ON_PURPOSE.
"""

import argparse
import json
import pathlib
import sys

SUITE = pathlib.Path(__file__).resolve().parent.parent / "tests/data/json_schema_suite"
DRAFTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
# File, and why its valid instances may be refused.
REFUSED_ON_PURPOSE = {
    "/format.json": "formats are asserted; the file holds a validator to take them for annotations",
    "/bignum.json": "an integer is written in digits; Python and others write these with an exponent",
    "/float-overflow.json": "an integer is written in digits; this one comes with an exponent",
}


def cases():
    """Every case of the suite: identifier, schema, instance, whether it is valid."""
    for draft, dialect in DRAFTS.items():
        folder = SUITE / draft
        if not folder.is_dir():
            sys.exit(f"{folder} is missing; run scripts/fetch_json_schema_suite.sh")
        for path in sorted(folder.rglob("*.json")):
            file = f"{draft}/{path.relative_to(folder)}"
            for group_idx, group in enumerate(json.loads(path.read_text(encoding="utf-8"))):
                schema = group["schema"]
                if isinstance(schema, dict):
                    schema = {"$schema": dialect, **schema}
                for case_idx, case in enumerate(group["tests"]):
                    yield f"{file}#{group_idx}/{case_idx}", schema, case["data"], case["valid"]


def resolve(root, reference):
    """The schema that a pointer in the same document means, or None."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for step in reference[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return found


def flatten(root, schema, found):
    """A schema and those it applies in place, in the order in which they name properties."""
    if not isinstance(schema, dict) or any(known is schema for known in found):
        return
    keywords = list(schema)
    own = keywords.index("properties") if "properties" in keywords else -1
    before, after = [], []
    for idx, (keyword, value) in enumerate(schema.items()):
        if keyword in ("allOf", "anyOf", "oneOf"):
            (before if idx < own else after).extend(value)
        elif keyword == "$ref":
            (before if idx < own else after).append(resolve(root, value))
    # What is applied before the schema's own properties comes before them.
    for branch in before:
        flatten(root, branch, found)
    found.append(schema)
    for branch in after:
        flatten(root, branch, found)
    for keyword in ("if", "then", "else", "not"):
        flatten(root, schema.get(keyword), found)
    for keyword in ("dependentSchemas", "dependencies"):
        for branch in members(schema, keyword).values():
            flatten(root, branch, found)


def members(schema, keyword):
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def listed(schema, keyword):
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def names(flat):
    """Names of properties in the order in which the schemas mention them."""
    order = []
    for schema in flat:
        order += members(schema, "properties")
    for schema in flat:
        for constant in [schema.get("const"), *listed(schema, "enum")]:
            order += constant if isinstance(constant, dict) else []
    for schema in flat:
        order += [name for name in listed(schema, "required") if isinstance(name, str)]
    for keyword in ("dependentRequired", "dependencies", "dependentSchemas"):
        for schema in flat:
            for name, needed in members(schema, keyword).items():
                order += [name, *(needed if isinstance(needed, list) else [])]
    return order


def in_schema_order(root, instance, schemas):
    """The instance with its keys in schema order all the way down, integers without a point."""
    flat = []
    for schema in schemas:
        flatten(root, schema, flat)
    if isinstance(instance, dict):
        order = names(flat)
        rank = {name: idx for idx, name in reversed(list(enumerate(order)))}
        ordered = sorted(instance, key=lambda name: rank.get(name, len(order)))
        return {name: in_schema_order(root, instance[name], below_name(flat, name)) for name in ordered}
    if isinstance(instance, list):
        return [in_schema_order(root, item, below_index(flat, idx)) for idx, item in enumerate(instance)]
    if isinstance(instance, float) and instance.is_integer() and abs(instance) <= 2**53:
        return int(instance)
    return instance


def below_name(flat, name):
    inner = []
    for schema in flat:
        if name in members(schema, "properties"):
            inner.append(schema["properties"][name])
        elif "additionalProperties" in schema:
            inner.append(schema["additionalProperties"])
        inner += members(schema, "patternProperties").values()
    return inner


def below_index(flat, idx):
    inner = []
    for schema in flat:
        prefix = listed(schema, "prefixItems") or listed(schema, "items")
        if idx < len(prefix):
            inner.append(prefix[idx])
        elif isinstance(schema.get("items"), dict):
            inner.append(schema["items"])
        else:
            inner.append(schema.get("additionalItems"))
        inner.append(schema.get("contains"))
    return inner


def write_cases():
    for name, schema, instance, _ in cases():
        text = json.dumps(in_schema_order(schema, instance, [schema]), ensure_ascii=False, separators=(",", ":"))
        try:
            text.encode()
        except UnicodeEncodeError:
            # A lone surrogate is no text.
            continue
        print(json.dumps({"id": name, "json_schema": schema, "text": text}))


def write_table(path):
    with open(path, encoding="utf-8") as lines:
        verdicts = {verdict["id"]: verdict for verdict in map(json.loads, lines)}
    columns = ("supported", "refused", "valid ok", "on purpose", "valid refused", "invalid ok", "invalid accepted")
    table, wrong = {}, []
    groups = set()
    for name, _, _, valid in cases():
        verdict = verdicts.get(name)
        if verdict is None:
            continue
        file, place = name.split("#")
        row = table.setdefault(file, dict.fromkeys(columns, 0))
        group = (file, place.split("/")[0])
        empty = verdict["compiled"] is False and "no output satisfies" in (verdict["error"] or "")
        supported = verdict["compiled"] or empty
        if group not in groups:
            groups.add(group)
            row["supported" if supported else "refused"] += 1
        if not supported:
            continue
        accepted = bool(verdict["masks_accept"])
        if not valid:
            row["invalid accepted" if accepted else "invalid ok"] += 1
            wrong += [f"{name}: invalid and accepted"] if accepted else []
        elif accepted:
            row["valid ok"] += 1
        elif any(file.endswith(end) for end in REFUSED_ON_PURPOSE):
            row["on purpose"] += 1
        else:
            row["valid refused"] += 1
            wrong.append(f"{name}: valid and refused")
    print(f"{'file':<56}" + "".join(f"{column:>17}" for column in columns))
    total = dict.fromkeys(columns, 0)
    for file, row in sorted(table.items()):
        print(f"{file:<56}" + "".join(f"{row[column]:>17}" for column in columns))
        for column in columns:
            total[column] += row[column]
    print(f"{'all':<56}" + "".join(f"{total[column]:>17}" for column in columns))
    print("\n".join(wrong))
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cases", help="print the cases, one JSON object a line")
    table = commands.add_parser("table", help="print the table of verdicts")
    table.add_argument("verdicts")
    options = parser.parse_args()
    if options.command == "table":
        sys.exit(write_table(options.verdicts))
    write_cases()


if __name__ == "__main__":
    main()
