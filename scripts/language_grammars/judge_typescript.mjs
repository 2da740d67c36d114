#!/usr/bin/env node
// Judges TypeScript by the parser of its own compiler: reads JSON lines {"id", "text"}, prints {"id", "parses", "error"}.
// Only the parser's diagnostics count, not those of the binder or the checker.
//
//   npm install --prefix sources/judges typescript@5.9.2        (what fetch_typescript.sh does)
//   node scripts/language_grammars/judge_typescript.mjs < cases.jsonl
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const modules = process.env.TYPESCRIPT_MODULES ?? join(root, "sources", "judges", "node_modules");
const ts = createRequire(join(modules, "judge.js"))("typescript");

for await (const line of createInterface({ input: process.stdin })) {
  const { id, text } = JSON.parse(line);
  const source = ts.createSourceFile("case.ts", text, ts.ScriptTarget.Latest, false, ts.ScriptKind.TS);
  const [first] = source.parseDiagnostics;
  const error = first ? `TS${first.code} at ${first.start}: ${ts.flattenDiagnosticMessageText(first.messageText, " ")}` : null;
  console.log(JSON.stringify({ id, parses: !first, error }));
}
