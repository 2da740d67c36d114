//! Inputs meant to hurt, made from a seed: valid ones and mutations of them, random ones of the right shape, and known
//! killers at, below and far above every bound.
//!
//! The same seed and number give the same input, so that a failure can be met again. Nothing here knows the server: the
//! harness beside it and the targets in `fuzz/` both draw from it.

#![allow(dead_code, unreachable_pub, reason = "each program uses its part")]

use serde_json::{Map, Value, json};

/// What an input pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Schema,
    Regex,
    Forbidden,
    W3c,
    Iso,
    Gbnf,
    Lark,
    Ir,
    Body,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Schema,
        Self::Regex,
        Self::Forbidden,
        Self::W3c,
        Self::Iso,
        Self::Gbnf,
        Self::Lark,
        Self::Ir,
        Self::Body,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Regex => "regex",
            Self::Forbidden => "forbidden",
            Self::W3c => "w3c",
            Self::Iso => "iso",
            Self::Gbnf => "gbnf",
            Self::Lark => "lark",
            Self::Ir => "ir",
            Self::Body => "body",
        }
    }
}

/// splitmix64.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of input `index` under `seed`.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut random = Self(seed ^ index.wrapping_mul(0xD134_2543_DE82_EF95));
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// A count: mostly a few, sometimes about `limit`, rarely far beyond.
    fn count(&mut self, limit: usize) -> usize {
        match self.below(100) {
            0..70 => 1 + self.below(6),
            70..90 => 1 + self.below(limit / 4 + 1),
            90..97 => limit - limit.min(3) + self.below(7),
            _ => limit * (2 + self.below(20)),
        }
    }
}

/// The source of an input of a kind: a schema, a pattern, a grammar, an IR or a body, as text.
pub fn source(kind: Kind, random: &mut Random) -> String {
    let text = match random.below(100) {
        0..8 => killer(kind, random),
        8..45 => generated(kind, random),
        45..50 => random.pick(seeds(kind)).to_owned(),
        _ => {
            let base = if random.chance(60) { random.pick(seeds(kind)).to_owned() } else { generated(kind, random) };
            let times = 1 + random.below(4);
            (0..times).fold(base, |text, _| mutated(kind, text, random))
        }
    };
    cut(text, 900_000)
}

/// The IR that carries a source; `None` where the source is no JSON and had to be.
pub fn ir(kind: Kind, source: &str, random: &mut Random) -> Option<Value> {
    let grammar = |syntax: &str| Some(json!({"grammar": {"syntax": syntax, "source": source}}));
    match kind {
        Kind::Schema => serde_json::from_str::<Value>(source).ok().map(|schema| json!({"json_schema": schema})),
        Kind::Regex => {
            let mode = random.pick(&["full", "prefix", "contains", "absent"]);
            let flags = random.pick(&["", "", "", "i", "s", "m", "x", "imsx", "g"]);
            let pattern = json!({"pattern": source, "flags": flags});
            Some(json!({"regex_patterns": [{"any_of": [pattern], "match": mode}]}))
        }
        Kind::Forbidden => {
            let scope = random.pick(&["output", "document"]);
            let texts = source.split('\n').map(|text| match text.strip_prefix('/') {
                Some(regex) => json!({"regex": regex, "scope": scope, "ignore_case": text.len() % 2 == 0}),
                None => json!({"text": text, "scope": scope, "whole_word": text.len() % 3 == 0}),
            });
            Some(json!({"forbidden_text": texts.collect::<Vec<_>>()}))
        }
        Kind::W3c | Kind::Iso => grammar("ebnf"),
        Kind::Gbnf => grammar("gbnf"),
        Kind::Lark => grammar("lark"),
        Kind::Ir | Kind::Body => serde_json::from_str(source).ok(),
    }
}

/// The body of a request to `/v1/completions` with an input of a kind in it.
pub fn body(kind: Kind, random: &mut Random) -> Vec<u8> {
    let source = source(kind, random);
    if kind == Kind::Body {
        return broken(source, random);
    }
    let mut body = json!({"prompt": "x = ", "max_tokens": 8, "temperature": 1.0, "seed": random.below(1000)});
    match ir(kind, &source, random) {
        None if random.chance(50) => body["structured_outputs"] = json!({"json": source}),
        // The place where an IR stands, with text that is no JSON.
        None => return format!(r#"{{"prompt": "x", "max_tokens": 8, "constraint_ir": {source}}}"#).into_bytes(),
        Some(ir) if random.chance(80) => body["constraint_ir"] = ir,
        Some(ir) => match kind {
            Kind::Schema => {
                let schema = json!({"name": "s", "schema": ir["json_schema"]});
                body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
            }
            Kind::Regex => body["structured_outputs"] = json!({"regex": source}),
            Kind::Forbidden => body["structured_outputs"] = json!({"choice": source.split('\n').collect::<Vec<_>>()}),
            Kind::Ir | Kind::Body => body["constraint_ir"] = json!([ir, {"forbidden_text": [{"text": "q"}]}]),
            _ => body["structured_outputs"] = json!({"grammar": source}),
        },
    }
    body.to_string().into_bytes()
}

/// A body as text, at times no longer UTF-8.
fn broken(source: String, random: &mut Random) -> Vec<u8> {
    let mut bytes = source.into_bytes();
    if random.chance(20) && !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] = random.next() as u8;
    }
    bytes
}

fn cut(mut text: String, len_max: usize) -> String {
    if text.len() > len_max {
        let at = (0..=len_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(at);
    }
    text
}

fn seeds(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Schema => &[
            r#"{"type":"object","properties":{"a":{"type":"integer","minimum":0},"b":{"type":"string","maxLength":5}},"required":["a"],"additionalProperties":false}"#,
            r##"{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"number"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}}"##,
            r#"{"enum":["a","b",1,null,true,{"x":[1]}]}"#,
            r#"{"type":"array","items":{"type":"string","pattern":"^[a-z]{2,5}$"},"minItems":1,"maxItems":4}"#,
            r#"{"oneOf":[{"type":"string"},{"type":"integer"}]}"#,
            r#"{"type":"string","format":"date-time"}"#,
            r#"{"allOf":[{"type":"object","properties":{"a":{"const":1}}},{"properties":{"b":{"type":"boolean"}}}]}"#,
            r#"{"type":"object","patternProperties":{"^x-":{"type":"string"}},"additionalProperties":{"type":"integer"}}"#,
            r#"{"type":["string","null","integer"],"minLength":3,"multipleOf":7}"#,
            r#"{"if":{"type":"integer"},"then":{"minimum":3},"else":{"type":"string"}}"#,
            r#"{"type":"array","prefixItems":[{"type":"integer"},{"const":"\ud83d\ude00\u0000"}],"items":false}"#,
            r#"{"type":"number","exclusiveMinimum":-1e300,"maximum":1e300,"multipleOf":0.0001}"#,
        ],
        Kind::Regex => &[
            r"[a-z]+(-[a-z]+)*",
            r"^\d{4}-\d{2}-\d{2}$",
            r"(?i)(select|insert|update)\s+\w+",
            r"(?-u:\b)foo(?-u:\b)",
            r#""(?:[^"\\]|\\.)*""#,
            r"(a|ab|abc)*d?",
            r"[\p{L}&&[^\p{Lu}]]{1,8}",
            r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}\d+",
            r"\x{1F600}|\u{10FFFF}|\x00",
            r"(?m)^#+ .*$",
            r"(x+x+)+y",
        ],
        Kind::Forbidden => &["TODO\nFIXME\nXXX", "/eval\\(\n/a{3,5}\nimport os", "\u{1F600}\né\nz", "a\nb\nc\nd\ne\nf"],
        Kind::W3c => &[
            "Greeting ::= 'hello' ' ' Name '!'\nName ::= [A-Z] [a-z]+",
            "S ::= (A | B)* - C\nA ::= #x41\nB ::= [#x30-#x39]\nC ::= 'AA'",
            "E ::= T ('+' T)*\nT ::= F ('*' F)*\nF ::= '(' E ')' | [0-9]+",
            "[1] doc ::= item+ /* comment */\n[2] item ::= '<' [^<>&] '>'",
        ],
        Kind::Iso => &[
            "greeting = 'hello', ' ', name, '!' ;\nname = letter, { letter } ;\nletter = 'a' | 'b' | 'c' ;",
            "s = 3 * 'ab', [ 'c' ], ( 'd' | 'e' ) ; (* comment *)",
            "list = item, { ',', item } ; item = digit - '0' ; digit = '0' | '1' | '2' ;",
        ],
        Kind::Gbnf => &[
            "root ::= object\nobject ::= \"{\" ws pair (\",\" ws pair)* \"}\"\npair ::= \"\\\"\" [a-z]+ \"\\\":\" [0-9]+\nws ::= [ \\t\\n]*",
            "root ::= (\"a\" | \"b\"){2,5} \"\\x41\" .?",
            "root ::= expr\nexpr ::= expr \"+\" term | term\nterm ::= [0-9]+",
            "root ::= [^\\n\\u00e9]* \"\\U0001F600\"",
        ],
        Kind::Lark => &[
            "start: greeting name\ngreeting: \"hello\" | \"bye\"\nname: /[A-Z][a-z]+/\n%ignore /[ \\t]+/",
            "start: expr\nexpr: term ((\"+\"|\"-\") term)*\nterm: NUMBER | \"(\" expr \")\"\nNUMBER: /[0-9]+(\\.[0-9]+)?/",
            "start: %json {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}}",
            "start: A{2,5} b?\nA: \"x\"i | /[0-9]/\nb: A~3",
            "start: TEXT\nTEXT: /(?s:.*)/ & ~/(?s:.*)evil(?s:.*)/",
            "%import common.INT\nstart: INT \",\" INT",
            "start: w[lazy] \"end\"\nw[lazy]: /[a-z ]*/",
        ],
        Kind::Ir => &[
            r#"{"version":1,"json_schema":{"type":"object","properties":{"a":{"type":"string"}}},"forbidden_text":[{"text":"pa"}],"limits":{"max_tokens":20,"json_whitespace":{"max_newlines":1,"max_spaces":4}}}"#,
            r#"{"grammar":{"syntax":"gbnf","source":"root ::= [a-z]+"},"regex_patterns":[{"any_of":[{"pattern":"[a-m]*"},{"pattern":"z"}],"match":"full"}]}"#,
            r#"{"token_masks":{"forbidden_tokens":[300,301,302]},"regex_patterns":[{"any_of":[{"pattern":"x"}],"match":"absent"}]}"#,
            r#"{"soft":[{"text":"a","bias":1.5}],"limits":{"max_chars":20}}"#,
            r#"{"forbidden_text":[{"regex":"a+b","ignore_case":true,"whole_word":true,"scope":"document"}],"name":"n","priority":3,"language":"python"}"#,
            r#"{"digest":"00","sources":[{"id":"a","name":"b","part":"json_schema","strength":"hard"}]}"#,
        ],
        Kind::Body => &[
            r#"{"prompt":"x","max_tokens":8,"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"integer"}}}}"#,
            r#"{"prompt":["a","b"],"n":2,"max_tokens":4,"structured_outputs":{"regex":"[a-z]+"},"seed":1}"#,
            r#"{"prompt":[1,2,300],"max_tokens":4,"temperature":0.5,"top_p":0.9,"logit_bias":{"17":-100},"stop":["\n"]}"#,
            r#"{"prompt":"x","max_tokens":4,"constraint_ir":[{"regex_patterns":[{"any_of":[{"pattern":"a*"}],"match":"full"}]},{"forbidden_text":[{"text":"aaa"}]}]}"#,
            r#"{"prompt":"x","max_tokens":4,"context":{"source":"interface P { x: number; y?: string[] }","language":"typescript","type":"P"}}"#,
            r#"{"prompt":"x","max_tokens":4,"context":{"source":"class A:\n    x: int\n    y: list[str]\n","language":"python"}}"#,
            r#"{"prompt":"x","max_tokens":4,"echo":true,"logprobs":2,"structured_outputs":{"choice":["yes","no"]}}"#,
        ],
    }
}

/// Pieces that mean something in a kind.
fn tokens(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Schema | Kind::Ir | Kind::Body => &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "null",
            "true",
            "-1",
            "1e309",
            "4294967296",
            "18446744073709551616",
            "0.1",
            "\"\"",
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
            "\"\\u0000\"",
            "\"$ref\":\"#\"",
            "\"$ref\":\"#/$defs/a\"",
            "\"$ref\":\"http://127.0.0.1:9/x\"",
            "\"$ref\":\"#/a~2b\"",
            "\"type\":\"string\"",
            "\"pattern\":\"(\"",
            "\"maxItems\":1000001",
            "\"minLength\":20000",
            "\"uniqueItems\":true",
            "\"not\":{}",
            "\"enum\":[]",
            "\"match\":\"full\"",
            "\"syntax\":\"lark\"",
            "\"version\":2",
            "\"additionalProperties\":{\"$ref\":\"#\"}",
        ],
        Kind::Regex | Kind::Forbidden => &[
            "(",
            ")",
            "(?:",
            "(?i)",
            "(?s)",
            "(?x)",
            "(?P<n>",
            "(?=",
            "(?!",
            "(?<=",
            "[",
            "]",
            "[^",
            "&&",
            "--",
            "{",
            "}",
            "{2}",
            "{1000}",
            "{0,}",
            "{,5}",
            "{99999999999}",
            "*",
            "+",
            "?",
            "*?",
            "|",
            "^",
            "$",
            "\\b",
            "\\B",
            "\\A",
            "\\z",
            "\\d",
            "\\w",
            "\\p{L}",
            "\\P{Greek}",
            "\\x{110000}",
            "\\xFF",
            "(?-u:\\xFF)",
            "\\u{D800}",
            ".",
            "[^\\s\\S]",
            "\\1",
            "\\Q",
            "\n",
            "/",
            "\0",
            "\u{FFFD}",
            "ſ",
            "K",
            "İ",
        ],
        Kind::W3c | Kind::Iso | Kind::Gbnf => &[
            "::=",
            "=",
            ";",
            ".",
            ",",
            "|",
            "(",
            ")",
            "[",
            "]",
            "[^",
            "{",
            "}",
            "{2,1}",
            "{1000}",
            "{0}",
            "*",
            "+",
            "?",
            "-",
            "'",
            "\"",
            "#x41",
            "#x110000",
            "#xD800",
            "#",
            "(*",
            "*)",
            "/*",
            "*/",
            "\\x4",
            "\\uD800",
            "\\U",
            "root",
            "a",
            "3 *",
            "99999999999 *",
            "\n",
            "\0",
            "\u{FEFF}",
            "''",
            "<[1]>",
            "!<[2]>",
        ],
        Kind::Lark => &[
            ":",
            "|",
            "(",
            ")",
            "[",
            "]",
            "?",
            "*",
            "+",
            "~1..5",
            "~99999999999",
            "{1000}",
            "{,}",
            "\"",
            "/",
            "/a/",
            "/(/",
            "%ignore",
            "%import common",
            "%json {}",
            "%json {\"$ref\":\"#\"}",
            "%regex",
            "%lark {",
            "%declare",
            "%override",
            "%llguidance {}",
            "[lazy]",
            "[capture]",
            "[max_tokens=5]",
            "[stop=\"a\"]",
            "start",
            "start:",
            "A",
            "a",
            "->",
            "@",
            "<[1]>",
            "<[0-100]>",
            "<|end|>",
            "&",
            "~/a/",
            "..",
            "\"a\"..\"z\"",
            "!",
            "?a",
            "_b",
            "\n",
            "\\\n",
            "//",
            "#",
            "\0",
            "\u{FEFF}",
            "$1",
            "::",
            "%%",
        ],
    }
}

fn mutated(kind: Kind, text: String, random: &mut Random) -> String {
    let chars: Vec<char> = text.chars().collect();
    let from = random.below(chars.len() + 1);
    let to = (from + random.below(12)).min(chars.len());
    let (head, span, tail) = (&chars[..from], &chars[from..to], &chars[to..]);
    let text = |parts: &[&[char]]| parts.iter().copied().flatten().collect::<String>();
    let insert = |piece: &str| text(&[head]) + piece + &text(&[span, tail]);
    match random.below(12) {
        0 => text(&[head, tail]),
        1 => text(&[head, span, span, tail]),
        2 => {
            let times = random.count(500);
            text(&[head]) + &text(&[span]).repeat(times) + &text(&[tail])
        }
        3 => text(&[head]),
        4 => {
            let other: Vec<char> = random.pick(seeds(kind)).chars().collect();
            let at = random.below(other.len());
            text(&[head, &other[at..]])
        }
        5 => {
            let odd = ['\0', '\u{7F}', '\u{FEFF}', '\u{202E}', '\u{FFFD}', '\u{10FFFF}', 'é', 'ß', '\u{1F600}', '\r'];
            insert(&odd[random.below(odd.len())].to_string())
        }
        6 => {
            let number = random.pick(&["0", "-1", "65536", "4294967295", "99999999999999999999", "1e999"]);
            let is_digit = |c: &char| c.is_ascii_digit();
            match chars.iter().position(is_digit) {
                Some(at) => text(&[&chars[..at]]) + number + &text(&[&chars[at + 1..]]),
                None => insert(number),
            }
        }
        7 => {
            let (open, close) = match random.below(3) {
                0 => ("(", ")"),
                1 => ("[", "]"),
                _ => ("{", "}"),
            };
            let depth = random.count(130);
            text(&[head]) + &open.repeat(depth) + &text(&[span]) + &close.repeat(depth) + &text(&[tail])
        }
        8 => text(&[tail, span, head]),
        _ => insert(random.pick(tokens(kind))),
    }
}

fn generated(kind: Kind, random: &mut Random) -> String {
    match kind {
        Kind::Schema => {
            let mut schema = schema(random, 4);
            if random.chance(40)
                && let Some(object) = schema.as_object_mut()
            {
                object.insert("$defs".into(), json!({"a": random_ref(random), "b": self::schema(random, 2)}));
            }
            schema.to_string()
        }
        Kind::Regex => regex(random, 5),
        Kind::Forbidden => {
            let num_texts = random.count(300);
            let text = |random: &mut Random| match random.chance(30) {
                true => format!("/{}", regex(random, 2).replace('\n', "")),
                false => (0..1 + random.below(6)).map(|_| char::from(b'a' + random.below(26) as u8)).collect(),
            };
            (0..num_texts).map(|_| text(random)).collect::<Vec<String>>().join("\n")
        }
        Kind::W3c | Kind::Iso | Kind::Gbnf | Kind::Lark => grammar(kind, random),
        Kind::Ir => random_ir(random).to_string(),
        Kind::Body => {
            let mut body = json!({"prompt": "x", "max_tokens": random.below(10), "constraint_ir": random_ir(random)});
            let value = [json!(1), json!("x"), json!([]), json!({}), json!(null), json!(-1.5e300)];
            for _ in 0..random.below(3) {
                let field =
                    random.pick(&["n", "temperature", "top_p", "stop", "seed", "logprobs", "stream", "model", "foo"]);
                body[field] = value[random.below(value.len())].clone();
            }
            body.to_string()
        }
    }
}

fn random_ref(random: &mut Random) -> Value {
    let target = random.pick(&[
        "#",
        "#/$defs/a",
        "#/$defs/b",
        "#/properties/a",
        "#/nowhere",
        "http://127.0.0.1:9/s.json",
        "other.json",
        "#a",
        "#/%24defs/a",
        "#/$defs/a/properties/b",
        "file:///etc/passwd",
        "",
    ]);
    json!({"$ref": target})
}

fn schema(random: &mut Random, depth: usize) -> Value {
    if depth == 0 || random.chance(10) {
        let leaves = [json!(true), json!({}), json!({"type": "integer"}), json!({"type": "string"}), json!(false)];
        return leaves[random.below(leaves.len())].clone();
    }
    let mut object = Map::new();
    for _ in 0..1 + random.below(3) {
        let (key, value) = keyword(random, depth - 1);
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}

fn keyword(random: &mut Random, depth: usize) -> (&'static str, Value) {
    let names = ["a", "b", "c", "", "a/b", "~", "\u{0}", "é", "\"", "__proto__"];
    let name = |random: &mut Random| random.pick(&names).to_owned();
    let schemas = |random: &mut Random| (0..1 + random.below(3)).map(|_| schema(random, depth)).collect::<Vec<_>>();
    let object = |random: &mut Random| {
        (0..1 + random.below(3)).map(|_| (name(random), schema(random, depth))).collect::<Map<_, _>>()
    };
    let number = |random: &mut Random| match random.below(8) {
        0 => json!(-1),
        1 => json!(1e300),
        2 => json!(0.3),
        3 => json!(20_000),
        4 => json!(u64::MAX),
        _ => json!(random.below(10)),
    };
    match random.below(26) {
        0..4 => {
            ("type", json!(random.pick(&["object", "array", "string", "integer", "number", "boolean", "null", "any"])))
        }
        4 => ("type", json!(["string", "integer", "null"])),
        5..8 => ("properties", object(random).into()),
        8 => ("required", json!([name(random), name(random)])),
        9 => ("additionalProperties", schema(random, depth)),
        10 => ("patternProperties", Map::from_iter([(regex(random, 2), schema(random, depth))]).into()),
        11 => ("items", schema(random, depth)),
        12 => ("prefixItems", schemas(random).into()),
        13 => ("anyOf", schemas(random).into()),
        14 => ("oneOf", schemas(random).into()),
        15 => ("allOf", schemas(random).into()),
        16 => (random.pick(&["not", "if", "then", "else", "contains", "propertyNames"]), schema(random, depth)),
        17 => (
            "enum",
            Value::from(
                [json!(1), json!("a"), json!(null), json!([]), json!({"a": 1}), json!("\0")][..1 + random.below(6)]
                    .to_vec(),
            ),
        ),
        18 => ("const", json!(random.pick(&["x", "", "\u{1F600}", "\\", "\"]}"]))),
        19 => ("pattern", json!(regex(random, 3))),
        20 => ("format", json!(random.pick(&["date-time", "uuid", "email", "uri", "ipv6", "regex", "nonsense"]))),
        21 => (
            random.pick(&["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]),
            number(random),
        ),
        22 => {
            (random.pick(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]), number(random))
        }
        23 => (random.pick(&["dependentRequired", "dependencies"]), json!({"a": ["b", "c"]})),
        24 => (random.pick(&["$id", "$anchor", "$schema", "$comment", "title", "default", "x-guidance"]), json!("a")),
        _ => ("$ref", random_ref(random)["$ref"].clone()),
    }
}

fn regex(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random
            .pick(&[
                "a",
                "b",
                "ab",
                "[a-z]",
                "[^a]",
                r"\d",
                r"\w",
                r"\s",
                ".",
                r"\p{L}",
                r"\x00",
                "é",
                r"\.",
                "[a&&b]",
                "",
                "^",
                "$",
                r"(?-u:\b)",
                r"\b",
                r"[\w--a]",
                r"\u{1F600}",
                "[[:alpha:]]",
                r"(?i:ſ)",
            ])
            .to_owned();
    }
    let inner = |random: &mut Random| regex(random, depth - 1);
    match random.below(9) {
        0 | 1 => inner(random) + &inner(random),
        2 => format!("(?:{}|{})", inner(random), inner(random)),
        3 => format!("(?:{})*", inner(random)),
        4 => format!("(?:{})+?", inner(random)),
        5 => {
            let (low, more) = (random.count(40), random.below(20));
            format!("(?:{}){{{low},{}}}", inner(random), low + more)
        }
        6 => format!("({})?", inner(random)),
        7 => format!("(?{}:{})", random.pick(&["i", "s", "m", "-u", "x"]), inner(random)),
        _ => inner(random),
    }
}

/// Rules that name each other at will: left, right, nullable and endless recursion come up often.
fn grammar(kind: Kind, random: &mut Random) -> String {
    let num_rules = 1 + random.below(5);
    let mut rules = Vec::new();
    for idx in 0..num_rules {
        let name = match (kind, idx) {
            (Kind::Gbnf, 0) => "root".to_owned(),
            (Kind::Lark, 0) => "start".to_owned(),
            _ => format!("r{idx}"),
        };
        let body = expression(kind, random, 3, num_rules);
        rules.push(match kind {
            Kind::Lark => format!("{name}: {body}"),
            Kind::Iso => format!("{name} = {body} ;"),
            _ => format!("{name} ::= {body}"),
        });
    }
    if kind == Kind::Lark && random.chance(20) {
        rules.push(format!("%ignore /{}/", regex(random, 1).replace('/', "")));
    }
    rules.join("\n")
}

fn expression(kind: Kind, random: &mut Random, depth: usize, num_rules: usize) -> String {
    if depth == 0 {
        let rule = 1 + random.below(num_rules);
        let quote = if matches!(kind, Kind::Gbnf | Kind::Lark) { '"' } else { '\'' };
        return match random.below(6) {
            0 | 1 if rule < num_rules => format!("r{rule}"),
            0 if kind == Kind::Lark => "start".into(),
            0 if kind == Kind::Gbnf => "root".into(),
            2 if kind == Kind::Gbnf || kind == Kind::W3c => "[a-z]".into(),
            2 if kind == Kind::Lark => format!("/{}/", regex(random, 2).replace('/', "")),
            3 => format!("{quote}{quote}"),
            4 if kind == Kind::W3c => "#x41".into(),
            _ => format!("{quote}{}{quote}", random.pick(&["a", "b", "ab", " ", "é"])),
        };
    }
    let inner = |random: &mut Random| expression(kind, random, depth - 1, num_rules);
    let many = random.count(60);
    match (random.below(8), kind) {
        (0 | 1, Kind::Iso) => format!("{}, {}", inner(random), inner(random)),
        (0 | 1, _) => format!("{} {}", inner(random), inner(random)),
        (2 | 3, _) => format!("({} | {})", inner(random), inner(random)),
        (4, Kind::Iso) => format!("{{ {} }}", inner(random)),
        (4, _) => format!("({})*", inner(random)),
        (5, Kind::Iso) => format!("[ {} ]", inner(random)),
        (5, _) => format!("({})?", inner(random)),
        (6, Kind::Iso) => format!("{many} * ({})", inner(random)),
        (6, Kind::Gbnf) => format!("({}){{{many}}}", inner(random)),
        (6, Kind::Lark) => format!("({}){{0,{many}}}", inner(random)),
        (6, _) => format!("({})+", inner(random)),
        _ => inner(random),
    }
}

fn random_ir(random: &mut Random) -> Value {
    let mut all = Map::new();
    for _ in 0..1 + random.below(3) {
        let kinds = [Kind::Schema, Kind::Regex, Kind::Forbidden, Kind::W3c, Kind::Iso, Kind::Gbnf, Kind::Lark];
        let kind = kinds[random.below(kinds.len())];
        let source = if random.chance(50) { random.pick(seeds(kind)).to_owned() } else { generated(kind, random) };
        if let Some(Value::Object(part)) = ir(kind, &source, random) {
            all.extend(part);
        }
    }
    if random.chance(25) {
        let ids: Vec<usize> = (0..random.count(2_000)).map(|_| random.below(5_000)).collect();
        let list = random.pick(&["allowed_tokens", "forbidden_tokens"]);
        all.insert("token_masks".into(), json!({list: ids}));
    }
    if random.chance(20) {
        let limits = [
            json!({"max_tokens": random.below(20)}),
            json!({"max_chars": random.below(20)}),
            json!({"json_whitespace": {"max_newlines": random.below(3), "max_spaces": random.count(1_000)}}),
        ];
        all.insert("limits".into(), limits[random.below(3)].clone());
    }
    if random.chance(10) {
        all.insert("soft".into(), json!([{"text": "a", "bias": 2.0}, {"regex": regex(random, 2), "bias": -1e30}]));
    }
    Value::Object(all)
}

/// Inputs that have killed, hung or bloated servers, in a random size.
fn killer(kind: Kind, random: &mut Random) -> String {
    match kind {
        Kind::Schema => killer_schema(random),
        Kind::Regex => killer_regex(random),
        Kind::Forbidden => match random.below(4) {
            0 => vec!["x"; random.count(10_000)].join("\n"),
            1 => "x".repeat(random.count(500_000)),
            2 => format!("/{}", killer_regex(random)),
            _ => (0..random.count(2_000)).map(|_| format!("{:x}", random.next())).collect::<Vec<_>>().join("\n"),
        },
        Kind::W3c | Kind::Iso | Kind::Gbnf | Kind::Lark => killer_grammar(kind, random),
        Kind::Ir => match random.below(5) {
            0 => json!({"regex_patterns": vec![json!({"any_of": [{"pattern": "a+"}], "match": "contains"}); random.count(16)]}).to_string(),
            1 => json!({"token_masks": {"allowed_tokens": vec![5; random.count(100_000)]}}).to_string(),
            2 => format!("{}{}", r#"{"json_schema":"#.repeat(random.count(128)), "1"),
            3 => json!({"name": "n".repeat(random.count(100_000)), "json_schema": {"const": "x".repeat(random.count(60_000))}}).to_string(),
            _ => json!({"json_schema": {"const": "a"}, "regex_patterns": [{"any_of": vec![json!({"pattern": "b"}); random.count(10_000)], "match": "full"}]}).to_string(),
        },
        Kind::Body => match random.below(6) {
            0 => "[".repeat(random.count(128)),
            1 => r#"{"a":"#.repeat(random.count(128)),
            2 => format!(r#"{{"prompt": "{}", "max_tokens": 2}}"#, "word ".repeat(random.count(100_000))),
            3 => format!(r#"{{"prompt": "x", "max_tokens": 4, "stop": [{}"s"]}}"#, r#""a","#.repeat(random.count(16))),
            4 => format!(r#"{{"prompt": "x", "max_tokens": 4, "{}": 1}}"#, "k".repeat(random.count(300_000))),
            _ => {
                let source = format!("interface P {{ a: {}number{} }}", "Array<".repeat(random.count(60)), ">".repeat(60));
                json!({"prompt": "x", "max_tokens": 4, "context": {"source": source, "language": "typescript"}}).to_string()
            }
        },
    }
}

fn killer_schema(random: &mut Random) -> String {
    let len = random.count(256);
    match random.below(16) {
        0 => {
            let next = |idx: usize| json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", idx + 1)}});
            let mut defs: Map<String, Value> = (0..len).map(|idx| (format!("d{idx}"), next(idx))).collect();
            defs.insert(format!("d{len}"), json!({"type": "integer"}));
            json!({"$ref": "#/$defs/d0", "$defs": defs}).to_string()
        }
        1 => r#"{"type":"array","items":"#.repeat(len) + r#"{"type":"integer"}"# + &"}".repeat(len),
        2 => r#"{"anyOf":["#.repeat(len / 2 + 1) + "{}" + &"]}".repeat(len / 2 + 1),
        3 => {
            let members: Map<String, Value> = (0..random.count(2_000)).map(|idx| (format!("p{idx}"), json!({}))).collect();
            json!({"type": "object", "properties": members}).to_string()
        }
        4 => json!({"enum": (0..random.count(2_000)).map(|idx| format!("value {idx}")).collect::<Vec<_>>()}).to_string(),
        5 => json!({"type": "string", "pattern": killer_regex(random)}).to_string(),
        6 => json!({"type": "array", "minItems": random.count(20_000), "items": {"type": "integer"}}).to_string(),
        7 => json!({"type": "string", "minLength": random.count(20_000), "maxLength": random.count(1_000_000)}).to_string(),
        8 => json!({"const": "x".repeat(random.count(500_000))}).to_string(),
        9 => r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##.into(),
        10 => r##"{"anyOf":[{"$ref":"#"},{"type":"integer"}]}"##.into(),
        11 => r##"{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"string"}]}}}"##.into(),
        12 => {
            // Each level names the next twice.
            let depth = 2 + random.below(24);
            let two = |idx: usize| json!({"allOf": [{"$ref": format!("#/$defs/d{}", idx + 1)}, {"$ref": format!("#/$defs/d{}", idx + 1)}]});
            let mut defs: Map<String, Value> = (0..depth).map(|idx| (format!("d{idx}"), two(idx))).collect();
            defs.insert(format!("d{depth}"), json!({"type": "object", "properties": {"a": {"type": "integer"}}}));
            json!({"$ref": "#/$defs/d0", "$defs": defs}).to_string()
        }
        13 => {
            // A product of alternatives: each member of `allOf` multiplies.
            let branch = |idx: usize| json!({"anyOf": [{"properties": {format!("a{idx}"): {"type": "integer"}}}, {"properties": {format!("b{idx}"): {"type": "string"}}}]});
            json!({"type": "object", "allOf": (0..2 + random.below(20)).map(branch).collect::<Vec<_>>()}).to_string()
        }
        14 => {
            let branch = |idx: usize| json!({"type": "object", "properties": {"k": {"const": idx}}, "required": ["k"]});
            json!({"oneOf": (0..random.count(300)).map(branch).collect::<Vec<_>>()}).to_string()
        }
        _ => json!({"type": "number", "multipleOf": 1e-300, "minimum": -1e308, "maximum": 1e308}).to_string(),
    }
}

fn killer_regex(random: &mut Random) -> String {
    let many = random.count(250);
    match random.below(13) {
        0 => "((a{1000}){1000}){1000}".into(),
        1 => format!("(a{{{many}}}){{{many}}}"),
        2 => "(".repeat(many) + "a" + &")".repeat(many),
        3 => "(a|b)".repeat(random.count(3_000)),
        4 => format!("(?:a|b)*a(?:a|b){{{}}}", random.count(18)),
        5 => format!("[\\w\\p{{Greek}}]{{{}}}", random.count(400)),
        6 => format!("(?i)\\p{{L}}{{{}}}", random.count(200)),
        7 => (0..random.count(2_000)).map(|idx| format!("word{idx}")).collect::<Vec<_>>().join("|"),
        8 => "[".repeat(many) + "a" + &"]".repeat(many),
        9 => format!(".*{}.*", "a.*".repeat(random.count(40))),
        10 => "(?:".repeat(many) + "a" + &")*".repeat(many),
        11 => format!("(?:x?){{{0}}}x{{{0}}}", random.count(500)),
        _ => format!("\\b(?:\\w+\\s?){{{}}}\\b", random.count(50)),
    }
}

fn killer_grammar(kind: Kind, random: &mut Random) -> String {
    let (first, define, end) = match kind {
        Kind::Lark => ("start", ":", ""),
        Kind::Gbnf => ("root", "::=", ""),
        Kind::W3c => ("root", "::=", ""),
        _ => ("root", "=", " ;"),
    };
    let rule = |name: &str, body: &str| format!("{name} {define} {body}{end}\n");
    let a = if matches!(kind, Kind::Gbnf | Kind::Lark) { "\"a\"" } else { "'a'" };
    let comma = if kind == Kind::Iso { ", " } else { " " };
    let many = random.count(500);
    match random.below(15) {
        0 => {
            rule(first, "r0")
                + &(0..many).map(|idx| rule(&format!("r{idx}"), &format!("r{}", idx + 1))).collect::<String>()
                + &rule(&format!("r{many}"), a)
        }
        1 => rule(first, first),
        2 => rule(first, &format!("{first} | {a}")),
        3 => rule(first, &format!("{first}{comma}{first} | {}", if kind == Kind::Iso { "" } else { "''" })),
        4 => rule(first, &format!("{}{a}{}", "(".repeat(many / 10 + 1), ")".repeat(many / 10 + 1))),
        5 => {
            rule(first, "r0")
                + &rule("r0", &format!("r1{comma}r1{comma}r1"))
                + &rule("r1", &format!("r0 | {a} | r1{comma}r0"))
        }
        6 => match kind {
            Kind::Lark => rule(first, &format!("({a}{{1000}}){{{many}}}")),
            Kind::Iso => rule(first, &format!("1000 * ({many} * ({a}))")),
            _ => rule(first, &format!("(({a}{{100}}){{100}}){{{many}}}")),
        },
        7 => rule(first, &vec![a; random.count(5_000)].join(" | ")),
        8 => rule(first, &vec![a; random.count(20_000)].join(comma)),
        9 => {
            // Nullable in many ways: every rule is empty or two others.
            let body = |idx: usize| {
                format!(
                    "r{}{comma}r{} | {}",
                    (idx + 1) % 6,
                    (idx + 2) % 6,
                    if kind == Kind::Iso {
                        ""
                    } else if kind == Kind::W3c {
                        "''"
                    } else {
                        "\"\""
                    }
                )
            };
            rule(first, "r0") + &(0..6).map(|idx| rule(&format!("r{idx}"), &body(idx))).collect::<String>()
        }
        10 => {
            // Doubling: the sentence of r0 has 2^depth letters.
            let depth = 4 + random.below(30);
            rule(first, "r0")
                + &(0..depth)
                    .map(|idx| rule(&format!("r{idx}"), &format!("r{0}{comma}r{0}", idx + 1)))
                    .collect::<String>()
                + &rule(&format!("r{depth}"), a)
        }
        11 if kind == Kind::Lark => format!(
            "start: A\n{}A{many}: \"a\"\n",
            (0..many)
                .map(|idx| format!("A{}: A{}\n", if idx == 0 { String::new() } else { idx.to_string() }, idx + 1))
                .collect::<String>()
        ),
        12 if kind == Kind::Lark => format!("start: /{}/\n", killer_regex(random).replace('/', "")),
        13 if kind == Kind::Lark => format!("start: \"a\"\n{}", "%ignore /[ a]/\n".repeat(many)),
        14 if kind == Kind::Lark => format!("start: %json {}\n", killer_schema(random)),
        11 => format!("{}(* {}", rule(first, a), "(* ".repeat(many)),
        12 => rule(first, &format!("[{}]", "a-z".repeat(random.count(3_000)))),
        13 => "x".repeat(random.count(500_000)),
        _ => rule(first, &format!("{a}{}", "*".repeat(many))),
    }
}
