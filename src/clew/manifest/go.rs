//! `go.mod`.

use super::{Fault, Found};

/// What a line or a block may begin with.
const DIRECTIVES: [&str; 10] =
    ["module", "go", "toolchain", "require", "replace", "exclude", "retract", "godebug", "tool", "ignore"];

/// The modules of `require`, those needed only indirectly too, because the `go` command lets code import them.
/// `replace` says where a required module comes from; what code imports is still the name to the left of the arrow.
pub(super) fn read(text: &str) -> Result<Found, Fault> {
    let mut found = Found::default();
    let (mut start, mut block) = (0, None);
    for line in text.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or(line);
        let offset = start + code.len() - code.trim_start().len();
        start += line.len();
        let words: Vec<&str> = code.split_whitespace().collect();
        match (words.as_slice(), block) {
            ([], _) => {}
            ([")"], Some(_)) => block = None,
            (words, Some((directive, _))) => found.line(directive, words, offset)?,
            ([directive, "("], None) if DIRECTIVES.contains(directive) => block = Some((*directive, offset)),
            ([directive, words @ ..], None) if DIRECTIVES.contains(directive) => {
                let operand = words.first().map_or(0, |word| code.trim_start().find(word).unwrap_or(0));
                found.line(directive, words, offset + operand)?;
            }
            ([word, ..], None) => return Err(Fault::new(offset, format!("`{word}` is no directive of go.mod"))),
        }
    }
    match block {
        Some((directive, offset)) => Err(Fault::new(offset, format!("the block of `{directive}` is not closed"))),
        None => Ok(found),
    }
}

impl Found {
    fn line(&mut self, directive: &str, words: &[&str], offset: usize) -> Result<(), Fault> {
        let unquoted = |word: &str| word.trim_matches(['"', '`']).to_owned();
        match (directive, words) {
            ("module", [path]) => self.package = Some(unquoted(path)),
            ("require", [path, _version]) => self.dependencies.push((unquoted(path), offset)),
            ("replace", words) if words.contains(&"=>") => {}
            ("module" | "require" | "replace", _) => {
                return Err(Fault::new(offset, format!("`{directive}` does not take `{}`", words.join(" "))));
            }
            _ => {}
        }
        Ok(())
    }
}
