//! EBNF and GBNF grammars, read and recognized by code of our own that the masks do not use.
//!
//! [`notation`] reads the rules, [`productions`] numbers them, [`earley`] decides.
//! Characters are code points, as in the notations themselves, so text that is not UTF-8 is in no language.

mod earley;
mod notation;
mod productions;

use earley::Outcome;

use super::Judgement;
use crate::constraint::{Grammar, GrammarSyntax};

/// Whether `text` is a sentence of the grammar.
pub(super) fn check(text: &[u8], grammar: &Grammar) -> Judgement {
    let Ok(text) = str::from_utf8(text) else {
        return Judgement::Fails("not UTF-8".into());
    };
    let start = match grammar.syntax {
        GrammarSyntax::Gbnf => Some(grammar.start.as_deref().unwrap_or("root")),
        _ => grammar.start.as_deref(),
    };
    let recognized = notation::parse(grammar)
        .and_then(|rules| productions::number(&rules, start))
        .and_then(|productions| earley::recognize(&productions, text));
    match recognized {
        Ok(Outcome::Sentence) => Judgement::Holds,
        Ok(Outcome::Prefix) => Judgement::Fails("the output ends inside a sentence".into()),
        Ok(Outcome::Dead { byte }) => Judgement::Violated(format!("no sentence has the character at byte {byte}")),
        Err(why) => Judgement::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::GrammarSyntax::{Ebnf, Gbnf};

    fn judge(syntax: GrammarSyntax, source: &str, text: &str) -> Judgement {
        check(text.as_bytes(), &Grammar { syntax, source: source.into(), start: None })
    }

    fn check_language(syntax: GrammarSyntax, source: &str, sentences: &[&str], others: &[&str]) {
        for text in sentences {
            assert_eq!(judge(syntax, source, text), Judgement::Holds, "{text:?} is a sentence of {source}");
        }
        for text in others {
            let judgement = judge(syntax, source, text);
            let refused = matches!(judgement, Judgement::Fails(_) | Judgement::Violated(_));
            assert!(refused, "{text:?} is no sentence of {source}, but: {judgement:?}");
        }
    }

    #[test]
    fn hard_shapes_of_grammars_are_recognized() {
        let many_a = "a".repeat(300);
        for (source, sentences, others) in [
            // Ambiguous: exponentially many parses.
            ("s ::= s s | 'a'", vec!["a", "aa", "aaaaa", &many_a], vec!["", "b", "aab"]),
            ("e ::= e '+' e | e '*' e | [0-9]", vec!["1", "1+2*3+4"], vec!["1+", "+1", "12"]),
            // Left, right, middle and hidden left recursion.
            ("s ::= s 'a' | 'b'", vec!["b", "baaa"], vec!["", "ab", "bab"]),
            ("s ::= 'a' s | 'b'", vec!["b", "aaab"], vec!["", "a", "ba"]),
            ("s ::= '(' s ')' s | ''", vec!["", "()", "(())()"], vec!["(", "())", ")("]),
            ("s ::= n s 'a' | 'b'  n ::= '' | 'c'", vec!["b", "baa", "ccbaa"], vec!["cba a", "cb", "bc"]),
            // Nullable, singly and in circles.
            ("s ::= a b a  a ::= 'x'?  b ::= a*", vec!["", "x", "xx", "xxxxx"], vec!["y", "xy"]),
            ("s ::= s | a | 'x'  a ::= s", vec!["x"], vec!["", "xx"]),
            ("s ::= (a*)* (a?)+  a ::= '' | 'x'", vec!["", "x", "xxxx"], vec!["y"]),
            // Of no sentence at all.
            ("s ::= s", vec![], vec!["", "s"]),
            ("s ::= 'a' s", vec![], vec!["", "a", "aa"]),
            // Not LR(k), and not regular.
            ("s ::= 'a' s 'a' | 'b' s 'b' | ''", vec!["", "abba", "aaaa"], vec!["ab", "aba"]),
        ] {
            check_language(Ebnf, source, &sentences, &others);
        }
    }

    #[test]
    fn w3c_notation_is_read() {
        let source = r##"
            /* a list */
            list   ::= "[" (item ("," item)*)? ']'
            item   ::= word | #x23 [^#x0-#x40]+ | hex-digit
            word   ::= [a-z] ([a-zA-Z0-9_] - [x-z])*
            hex-digit ::= [#x30-#x39#x41-#x46-]
        "##;
        check_language(
            Ebnf,
            source,
            &["[]", "[a]", "[ab1,c]", "[#é{]", "[9,F,-]"],
            &["", "[", "[,]", "[ax]", "[G]", "[#1]", "[a,]"],
        );
    }

    #[test]
    fn iso_notation_is_read() {
        let source = r#"
            (* a number, (* nested *) signed *)
            number = [ sign ], digit excluding zero, { digit } | "0";
            sign = "+" | '-' ;
            digit excluding zero = "1" | "2" | "3";
            digit = "0" | digit excluding zero;
        "#;
        check_language(Ebnf, source, &["0", "1", "-102", "+3"], &["", "-", "01", "-0", "4"]);
        check_language(Ebnf, "s = 3 * 'a', {'b'}- , ('c' / 'd').", &["aaabc", "aaabbd"], &["aabc", "aaac", "aaab"]);
        check_language(Ebnf, "s = {('a' | 'b' | 'c') - 'b'};", &["", "ac", "cca"], &["b", "ab"]);
    }

    #[test]
    fn gbnf_notation_is_read() {
        let source = r#"
            # a document
            root  ::= "{" ws pair ("," ws pair)* "}" # one line
            pair  ::= "\"" [^"\\\x00-\x1F]{1,3} "\"" ":" ws (number
                      | "\u00e9") ws
            number ::= "-"? [0-9]{2} | . "!" | [0-9]{3,} "x"{,2}
            ws ::= [ \t\n]*
        "#;
        check_language(
            Gbnf,
            source,
            &["{\"a\":12}", "{ \"a]\": -12 ,\n\"b\":é}", "{\"abc\":?!}", "{\"a\":1234xx}"],
            &["", "{}", "{\"\":12}", "{\"abcd\":12}", "{\"a\":1}", "{\"a\":123xxx}", "{\"a\\\":12}"],
        );
    }

    #[test]
    fn the_start_rule_follows_the_notation() {
        let check = |syntax, source: &str, start: Option<&str>, text: &str| {
            check(text.as_bytes(), &Grammar { syntax, source: source.into(), start: start.map(Into::into) })
        };
        assert_eq!(check(Ebnf, "a ::= 'x'  b ::= 'y'", None, "x"), Judgement::Holds);
        assert_eq!(check(Ebnf, "a ::= 'x'  b ::= 'y'", Some("b"), "y"), Judgement::Holds);
        assert_eq!(check(Gbnf, "a ::= \"x\"\nroot ::= \"y\"", None, "y"), Judgement::Holds);
        assert!(matches!(check(Gbnf, "a ::= \"x\"", None, "x"), Judgement::Unknown(_)));
    }

    #[test]
    fn a_wrong_character_is_a_violation_and_an_early_end_is_not() {
        let source = "s ::= 'é' 'b' 'c'";
        assert!(matches!(judge(Ebnf, source, "éb"), Judgement::Fails(_)));
        assert_eq!(judge(Ebnf, source, "éx"), Judgement::Violated("no sentence has the character at byte 2".into()));
        assert!(matches!(
            check(b"\xff", &Grammar { syntax: Ebnf, source: source.into(), start: None }),
            Judgement::Fails(_)
        ));
    }

    #[test]
    fn broken_and_hostile_grammars_are_not_checked() {
        let nested = format!("s ::= {}'a'{}", "(".repeat(100_000), ")".repeat(100_000));
        let long = format!("root ::= {}", "\"a\"{10000} ".repeat(200));
        let ladder: String = (0..40).map(|i| format!("r{i} ::= r{0} r{0}\n", i + 1)).collect::<String>() + "r40 ::= ''";
        for (syntax, source, expected) in [
            (Ebnf, "", "no rule"),
            (Ebnf, "s ::= t", "line 1, column 7: rule `t` is not defined"),
            (Ebnf, "s ::= 'a'\ns ::= 'b'", "line 2, column 1: rule `s` is defined twice"),
            (Ebnf, "s ::= 'a", "line 1, column 7: the quote is not closed"),
            (Ebnf, "s ::= ('a'", "line 1, column 11: expected `)`"),
            (Ebnf, "s ::= [a", "line 1, column 7: the class is not closed"),
            (Ebnf, "s ::= #x110000", "is no character"),
            (Ebnf, "s ::= /* open", "the comment is not closed"),
            (Ebnf, "s = ? bell ?;", "special sequences have no fixed meaning"),
            (Ebnf, "s = 99999999999 * 'a';", "repeat"),
            (Ebnf, "s ::= 'aa' - 'a'", "only single characters"),
            (Gbnf, "root ::= \"a\"{1,1000000000}", "repeat"),
            (Gbnf, &long, "more than"),
            (Gbnf, "root ::= \"\\q\"", "escape"),
            (Gbnf, "root ::= [z-a]", "backwards"),
            (Gbnf, "root ::= \"a\"{3,2}", "backwards"),
            (Ebnf, &nested, "nest"),
            (Ebnf, "s", "expected `=`"),
            (Ebnf, "::= 'a'", "expected a rule name"),
        ] {
            match judge(syntax, source, "a") {
                Judgement::Unknown(why) => assert!(why.contains(expected), "{why:?} should say {expected:?}"),
                other => panic!("{source} gave {other:?}"),
            }
        }
        assert_eq!(judge(Ebnf, &ladder, ""), Judgement::Holds);
    }

    #[test]
    fn recognition_has_a_bound() {
        let quadratic = "s ::= 'a' s | 'a'";
        assert_eq!(judge(Ebnf, quadratic, &"a".repeat(1_000)), Judgement::Holds);
        assert!(matches!(judge(Ebnf, quadratic, &"a".repeat(20_000)), Judgement::Unknown(_)));
        assert_eq!(judge(Ebnf, "s ::= 'a'*", &"a".repeat(20_000)), Judgement::Holds);
    }
}
