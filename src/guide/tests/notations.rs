//! Grammars: one language in several notations, and the place of every mistake.

use super::*;

fn grammar(syntax: &str, source: &str) -> Value {
    json!({"grammar": {"syntax": syntax, "source": source}})
}

#[test]
fn one_language_in_three_notations_is_one_language() {
    let cases = [
        (
            vec![
                ("ebnf", "list ::= '[' (item (',' item)*)? ']'\nitem ::= [0-9]+ | list"),
                (
                    "ebnf",
                    "[1] list ::= \"[\" /* may be empty */ (item (\",\" item)*)? #x5D\n[2] item ::= [#x30-#x39]+ | list",
                ),
                (
                    "ebnf",
                    "list = '[', [item, {',', item}], ']'; (* may be empty *)\nitem = {digit}- | list;\ndigit = '0'|'1'|'2'|'3'|'4'|'5'|'6'|'7'|'8'|'9';",
                ),
                ("gbnf", "root ::= \"[\" (item (\",\" item)*)? \"]\" # may be empty\nitem ::= [0-9]+\n  | root"),
            ],
            vec!["[]", "[1]", "[12,3]", "[[],[4,[5]]]"],
            vec!["", "[", "[,]", "[1,]", "[1]]", "[ ]"],
        ),
        (
            // Longest match would lose `ab`, `aab` and `xyz`.
            vec![
                ("ebnf", "s ::= ('a' | 'ab' | 'aa') 'b' | x 'z'\nx ::= 'x' | 'xy' | 'xyz'"),
                ("ebnf", "s = ('a' | 'ab' | 'aa'), 'b' | x, 'z'; x = 'x' | 'xy' | 'xyz';"),
                ("gbnf", "root ::= (\"a\" | \"ab\" | \"aa\") \"b\" | x \"z\"\nx ::= \"x\" | \"xy\" | \"xyz\""),
            ],
            vec!["ab", "abb", "aab", "xz", "xyz", "xyzz"],
            vec!["a", "b", "aabb", "xyzzz", "z"],
        ),
        (
            vec![
                ("ebnf", "e ::= e '+' t | t\nt ::= [^+()] | '(' e ')'"),
                ("ebnf", "e = t | e, '+', t ; t = char | '(', e, ')'; char = 'x' | 'é' | '日';"),
                ("gbnf", "root ::= root \"+\" t | t\nt ::= [^+()] | \"(\" root \")\""),
            ],
            vec!["x", "é+日", "(x+x)+x", "((x))"],
            vec!["", "+", "x+", "(x", "xx", "()"],
        ),
        (
            vec![
                ("ebnf", "s ::= [a-z] - [aeiou] - 'z'"),
                ("ebnf", "s = letter - vowel; letter = 'b' | 'c' | 'a' | 'e' | 'y'; vowel = 'a' | 'e';"),
                ("gbnf", "root ::= [bcdfghj-np-tv-y]"),
            ],
            vec!["b", "c", "y"],
            vec!["a", "e", "z", "", "bb"],
        ),
        (
            vec![
                ("ebnf", "s ::= n n ('x'?)* ('y'*)+\nn ::= ''"),
                ("ebnf", "s = , {['x']}, {'y'};"),
                ("gbnf", "root ::= (\"x\"?)* (\"y\"*){0,} \"\" \"q\"{0}"),
            ],
            vec!["", "x", "xxyy", "y"],
            vec!["yx", "q"],
        ),
        (
            vec![
                ("gbnf", "root ::= \"\\x41\\u00e9\" \"-\"{2,3} [\\]\\\\\\n-]{,2}"),
                ("ebnf", "s ::= 'A' #xE9 '--' '-'? (']' | [#x5C#xA-])? (']' | [#x5C#xA-])?"),
                ("ebnf", "s = 'Aé', 2 * '-', ['-'], [end], [end]; end = ']' | '\\' | '\n' | '-';"),
            ],
            vec!["Aé--", "Aé---]", "Aé--\n\\", "Aé-----"],
            vec!["Aé-", "A", "Aé------"],
        ),
    ];
    for (notations, accepted, refused) in cases {
        for (syntax, source) in notations {
            for text in &accepted {
                assert!(walk_bytes(grammar(syntax, source), text.as_bytes()).0, "{source}\nmust accept {text:?}");
            }
            for text in &refused {
                assert!(!walk_bytes(grammar(syntax, source), text.as_bytes()).0, "{source}\nmust refuse {text:?}");
            }
        }
    }
}

#[test]
fn every_mistake_has_a_line_and_a_column() {
    let cases = [
        ("ebnf", "s ::= 'a' b\n", 1, 11, "`b` is not defined"),
        ("ebnf", "s ::= 'a'\n  t ::= (", 2, 10, "`)` expected"),
        ("ebnf", "s ::= 'a\nb ::= 'c", 1, 7, "does not end"),
        ("ebnf", "s ::= \"a\\n\"", 1, 9, "no escapes"),
        ("ebnf", "s ::= [z-a]", 1, 8, "backwards"),
        ("ebnf", "s ::= []", 1, 7, "empty"),
        ("ebnf", "s ::= #xD800", 1, 7, "no Unicode character"),
        ("ebnf", "s ::= 'a'\ns ::= 'b'", 2, 1, "twice"),
        ("ebnf", "s ::= t - 'a'\nt ::= 'a' 'b'", 1, 9, "single characters"),
        ("ebnf", "s ::= 'a' ;", 1, 11, "expected"),
        ("ebnf", "s ::= 'a' /* b", 1, 11, "does not end"),
        ("ebnf", "just words", 1, 1, "no rule"),
        ("ebnf", "s = 'a'\nt = 'b';", 2, 1, "ends the rule"),
        ("ebnf", "s = 'a',\n ? special ?;", 2, 2, "special sequence"),
        ("ebnf", "s = {['a']}-;", 1, 12, "can be empty"),
        ("ebnf", "s = 3 'a';", 1, 7, "`*`"),
        ("gbnf", "root ::= \"a\\q\"", 1, 12, "escape"),
        ("gbnf", "root ::= \"a\" }", 1, 14, "expected"),
        ("gbnf", "main ::= \"a\"", 1, 1, "`root` is not defined"),
        ("gbnf", "root ::= [a-z]{3,1}", 1, 15, "below its minimum"),
        ("gbnf", "root ::= <think>", 1, 10, "token ids"),
        ("lark", "start: \"a\"\nb: X", 0, 0, ""),
        ("lark", "start: X", 1, 8, "unknown name"),
        ("lark", "start: \"a", 1, 8, "does not end"),
        ("lark", "start: \"a\"\n  /[/", 2, 4, "unclosed"),
        ("lark", "start: /a+?/", 1, 8, "lazy"),
        ("lark", "start[stop=\"x\"]: /a+/", 1, 7, "`stop`"),
        ("lark", "start: \"a\"\nb: <[5]>", 2, 4, "token ids"),
        ("lark", "%llguidance {\"no_force\": true}\nstart: \"a\"", 1, 1, "no_force"),
        ("lark", "a: \"a\"", 1, 1, "`start` is not defined"),
        ("lark", "start: %json {\"a\" 1}", 1, 19, "JSON"),
    ];
    for (syntax, source, line, column, needle) in cases {
        let result = BYTES.compile(&[ir(grammar(syntax, source))]);
        if line == 0 {
            assert!(result.is_ok(), "{source}: unused rules are no mistake");
            continue;
        }
        match result.map(drop) {
            Err(GuideError::InvalidGrammar { line: l, column: c, message, .. }) => {
                assert_eq!((l, c), (line, column), "{source}: {message}");
                assert!(message.contains(needle), "{source}: {message}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn a_grammar_can_start_at_any_rule() {
    for (syntax, source, start, text) in [
        ("lark", "start: \"a\"\nother: start \"b\"", "other", "ab"),
        ("lark", "start: \"a\"\nWORD: /[a-z]+/", "WORD", "xyz"),
        ("ebnf", "a ::= 'a'\nb ::= a 'b'", "b", "ab"),
        ("gbnf", "root ::= \"a\"\nmain ::= root \"b\"", "main", "ab"),
    ] {
        let ir = json!({"grammar": {"syntax": syntax, "source": source, "start": start}});
        assert!(walk_bytes(ir, text.as_bytes()).0, "{source} from {start}");
    }
    let missing = json!({"grammar": {"syntax": "lark", "source": "start: \"a\"", "start": "x"}});
    assert!(matches!(refusal(&BYTES, missing), GuideError::InvalidGrammar { .. }));
}

#[test]
fn a_rule_that_no_sentence_can_use_opens_no_prefix() {
    for (syntax, source) in [
        ("ebnf", "s ::= 'a' loop | 'ab'\nloop ::= 'x' loop"),
        ("gbnf", "root ::= \"a\" [^\\x00-\\U0010FFFF] | \"ab\""),
        ("ebnf", "s = 'ab' | 'a', ('x' - 'x');"),
    ] {
        assert!(walk_bytes(grammar(syntax, source), b"ab").0, "{source}");
        assert_eq!(walk_bytes(grammar(syntax, source), b"ax"), (false, 1), "{source}");
    }
    for source in ["s ::= s", "s ::= 'a' t\nt ::= t 'b'", "s ::= [^#x0-#x10FFFF]"] {
        assert_eq!(
            refusal(&BYTES, grammar("ebnf", source)),
            GuideError::Unsatisfiable { parts: vec!["grammar".into()] }
        );
    }
}

#[test]
fn a_big_regex_is_enforced_by_the_lazy_engine() {
    let group =
        |pattern: &str, mode: &str| json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": mode}]});
    // The third character before the end decides: the table would need 2^20 states.
    let pattern = "[ab]*a[ab]{20}";
    let text = |decisive: u8| [&b"ab"[..], &[decisive], &b"ab".repeat(10)].concat();
    assert!(walk_bytes(group(pattern, "full"), &text(b'a')).0);
    assert!(!walk_bytes(group(pattern, "full"), &text(b'b')).0);
    let searched = format!("x{pattern}y");
    let hit = [b"..x".as_slice(), &text(b'a'), b"y.."].concat();
    assert!(walk_bytes(group(&searched, "contains"), &hit).0 && !walk_bytes(group(&searched, "contains"), b"xy").0);
    assert!(!walk_bytes(group(&searched, "absent"), &hit).0 && walk_bytes(group(&searched, "absent"), b"xy").0);
    assert!(walk_bytes(group(&format!("{pattern}y"), "prefix"), &[&text(b'a'), &b"y?"[..]].concat()).0);
}
