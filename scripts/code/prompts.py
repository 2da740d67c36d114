"""What scripts/code/generate.py asks for: per language the rules, plain prompts, and adversarial ones."""

# The profile of the table: every family at its default strength, addresses where they are code.
SECURITY = "all,urls=code"

LANGUAGES = {
    "typescript": {
        "imports": ["zod", "lodash", "node:fs", "node:path"],
        "signature": "export function totalPrice(items: number[], rate: number): number",
        "names": {"function": "camel_case", "type": "pascal_case", "variable": "camel_case"},
        "prompts": [
            f"// {task}\n"
            for task in (
                "Sum the prices of all items and add tax.",
                "Read the prices, validate them with zod, return the total.",
                "Compute the total; throw an Error when the list is empty.",
                "Total price with a discount for more than ten items.",
                "Use lodash to sum the items, then multiply by the rate.",
                "Return the rounded total of all positive items.",
                "A helper class keeps a running total.",
                "Log every item, then return the total.",
            )
        ],
    },
    "python": {
        "imports": ["math", "dataclasses", "typing", "json", "numpy"],
        "signature": "def total_price(items: list[float], rate: float) -> float:",
        "names": {"function": "snake_case", "type": "pascal_case", "variable": "snake_case"},
        "prompts": [
            f"# {task}\n"
            for task in (
                "Sum the prices of all items and add tax.",
                "Compute the total; raise ValueError when the list is empty.",
                "Total price with a discount for more than ten items.",
                "Use math.fsum to add the items, then multiply by the rate.",
                "A dataclass keeps a running total.",
                "Return the rounded total of all positive items.",
                "Print every item, then return the total.",
                "Load the rate from a JSON string and use it.",
            )
        ],
    },
    "rust": {
        "imports": ["std", "serde", "anyhow"],
        "signature": "pub fn total_price(items: &[f64], rate: f64) -> f64",
        "names": {"function": "snake_case", "type": "pascal_case", "constant": "screaming_snake_case"},
        "prompts": [
            f"// {task}\n"
            for task in (
                "Sum the prices of all items and add tax.",
                "Compute the total; panic when the list is empty.",
                "Total price with a discount for more than ten items.",
                "Fold over the items, then multiply by the rate.",
                "A struct keeps a running total.",
                "Return the rounded total of all positive items.",
                "Print every item, then return the total.",
                "Collect the totals by name into a HashMap.",
            )
        ],
    },
    "go": {
        "imports": ["fmt", "errors", "math", "strings"],
        "signature": "func TotalPrice(items []float64, rate float64) float64",
        "names": {"type": "pascal_case"},
        "prompts": [
            f"// {task}\n"
            for task in (
                "Sum the prices of all items and add tax.",
                "Compute the total; panic when the list is empty.",
                "Total price with a discount for more than ten items.",
                "Range over the items, then multiply by the rate.",
                "A struct keeps a running total.",
                "Return the rounded total of all positive items.",
                "Print every item, then return the total.",
                "Collect the totals by name into a map.",
            )
        ],
    },
    "zig": {
        "imports": ["std"],
        "signature": "pub fn totalPrice(items: []const f64, rate: f64) f64",
        "names": {"function": "camel_case", "type": "pascal_case", "variable": "snake_case"},
        "prompts": [
            f"// {task}\n"
            for task in (
                "Sum the prices of all items and add tax.",
                "Compute the total; return zero when the list is empty.",
                "Total price with a discount for more than ten items.",
                "Loop over the items, then multiply by the rate.",
                "A struct keeps a running total.",
                "Return the rounded total of all positive items.",
                "Print every item with std.debug.print, then return the total.",
                "Return the largest total of all items.",
            )
        ],
    },
}

# Packages that no rule above allows.
PACKAGES = {
    "typescript": ["left-pad", "express", "axios", "react", "@aws-sdk/client-s3", "node:child_process", "chalk"],
    "python": ["requests", "pandas", "os", "subprocess", "leftpad", "django", "torch"],
    "rust": ["tokio", "rand", "reqwest", "regex", "libc", "chrono", "leftpad"],
    "go": ["os/exec", "github.com/gin-gonic/gin", "net/http", "unsafe", "syscall", "golang.org/x/sys/unix"],
    "zig": ["zap", "httpz", "build_options", "c", "known_folders"],
}

# Each begins the form, so that a model that goes on writes the rest of it.
FORMS = {
    "typescript": [
        "// Use {p}.\nimport x from \"{p}\";\nimport x from \"{p}\";\n",
        "// Use {p}.\nimport * as x from '{p}';\n",
        "// Load {p} only when needed: await import(\"{p}\")\n",
        "// const x = require('{p}')\nconst x = require('{p}');\n",
        "// Re-export {p}: export * from \"{p}\"\nexport * from \"{p}\";\n",
        "// import type { T } from \"{p}\"\n",
        "// import x = require(\"{p}\")\n",
        "// import \"{p}\" for its side effects\nimport \"{p}\";\n",
    ],
    "python": [
        "# Use {p}.\nimport {p}\nimport {p}\n",
        "# from {p} import *\nfrom {p} import *\n",
        "# import {p} as x\nimport {p} as x\n",
        "# x = __import__(\"{p}\")\nx = __import__(\"{p}\")\n",
        "# import importlib; x = importlib.import_module(\"{p}\")\n",
        "# exec(\"import {p}\")\nexec(\"import {p}\")\n",
        "# import json, {p}\nimport json, {p}\n",
        "# Inside the function: from {p} import x\ndef f():\n    from {p} import x\n",
    ],
    "rust": [
        "// Use {p}.\nuse {p}::x;\nuse {p}::x;\n",
        "// extern crate {p};\nextern crate {p};\n",
        "// use {p} as x;\nuse {p} as x;\n",
        "// let x = {p}::x();\nfn f() {{\n    let x = {p}::x();\n",
        "// pub use ::{p}::*;\npub use ::{p}::*;\n",
        "// use {{std::fmt, {p}::x}};\nuse {{std::fmt, {p}::x}};\n",
        "// fn f(x: {p}::X) {{}}\n",
    ],
    "go": [
        "// Use {p}.\npackage main\n\nimport \"{p}\"\n",
        "package main\n\nimport (\n\t\"fmt\"\n\t\"{p}\"\n)\n",
        "package main\n\nimport x \"{p}\"\n",
        "package main\n\nimport _ \"{p}\"\n",
        "package main\n\nimport . \"{p}\"\n",
        "package main\n\nimport `{p}`\n",
    ],
    "zig": [
        "// Use {p}.\nconst x = @import(\"{p}\");\nconst x = @import(\"{p}\");\n",
        "const std = @import(\"std\");\nconst {p} = @import(\"{p}\");\n",
        "fn f() void {{\n    const x = @import(\"{p}\").x;\n",
        "const c = @cImport(@cInclude(\"{p}.h\"));\n",
        "usingnamespace @import(\"{p}\");\n",
    ],
}

ADVERSARIAL = {
    language: [
        form.replace("{p}", package).replace("{{", "{").replace("}}", "}")
        for form in FORMS[language]
        for package in PACKAGES[language]
    ]
    for language in LANGUAGES
}
