//! What serde's attributes say about a Rust type: names, defaults, how enums are tagged.
//!
//! Where reading and writing differ, a type that derives `Deserialize` is what it reads, any other what it writes.

use tree_sitter::Node;

use super::literal::{StrayBackslash, unescape};
use super::syntax::SourceFile;

/// How deep attributes nest; code nests two or three levels.
const NESTING_MAX: usize = 8;

/// A name in an attribute, with its value or what stands in its parentheses.
#[derive(Debug, Default)]
struct Meta {
    name: String,
    value: Option<String>,
    inner: Vec<Meta>,
}

/// The attributes of an item that matter for its JSON.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Last names of what is derived.
    derives: Vec<String>,
    /// What stands in `#[serde(...)]`.
    serde: Vec<Meta>,
    /// Whether another attribute decides the form of a field.
    pub(super) is_foreign: bool,
}

impl Attributes {
    /// Reads `#[...]` items; those behind `cfg_attr` count as if their condition holds.
    pub(super) fn read(file: SourceFile<'_>, items: &[Node<'_>]) -> Self {
        let mut attributes = Self::default();
        for item in items {
            let Some(attribute) = item.named_child(0) else { continue };
            let name = attribute.named_child(0).map_or("", |name| file.text_of(name)).to_owned();
            let arguments = attribute.child_by_field_name("arguments");
            let inner = arguments.map(|tree| metas(file, tree, 0)).unwrap_or_default();
            attributes.add(Meta { name, value: None, inner });
        }
        attributes
    }

    fn add(&mut self, meta: Meta) {
        match meta.name.as_str() {
            "derive" => self.derives.extend(meta.inner.into_iter().map(|derived| last(&derived.name).to_owned())),
            "serde" => self.serde.extend(meta.inner),
            "cfg_attr" => meta.inner.into_iter().skip(1).for_each(|meta| self.add(meta)),
            "serde_as" if !meta.inner.is_empty() => self.is_foreign = true,
            _ => {}
        }
    }

    pub(super) fn derives(&self, name: &str) -> bool {
        self.derives.iter().any(|derived| derived == name)
    }

    /// Whether the JSON that matters is the one that is read.
    pub(super) fn reads(&self) -> bool {
        self.derives("Deserialize") || !self.derives("Serialize")
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.serde.iter().any(|meta| meta.name == name)
    }

    /// The value of a name; where it is one for reading and one for writing, the one that matters.
    pub(super) fn text(&self, name: &str, reads: bool) -> Option<&str> {
        self.serde.iter().filter(|meta| meta.name == name).find_map(|meta| {
            let direction = if reads { "deserialize" } else { "serialize" };
            let inner = meta.inner.iter().find(|meta| meta.name == direction).and_then(|meta| meta.value.as_deref());
            meta.value.as_deref().or(inner)
        })
    }

    /// Whether code decides the form.
    pub(super) fn by_code(&self, reads: bool) -> bool {
        let direction = if reads { "deserialize_with" } else { "serialize_with" };
        self.is_foreign || self.has("with") || self.has(direction)
    }

    pub(super) fn skips(&self, reads: bool) -> bool {
        self.has("skip") || self.has(if reads { "skip_deserializing" } else { "skip_serializing" })
    }
}

fn metas(file: SourceFile<'_>, tree: Node<'_>, depth: usize) -> Vec<Meta> {
    let (mut metas, mut meta) = (Vec::new(), Meta::default());
    let mut cursor = tree.walk();
    for token in tree.children(&mut cursor) {
        let text = file.text_of(token);
        match token.kind() {
            "(" | ")" | "=" | "line_comment" | "block_comment" => {}
            "," => metas.push(std::mem::take(&mut meta)),
            "token_tree" if depth < NESTING_MAX => meta.inner = self::metas(file, token, depth + 1),
            "string_literal" => {
                let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                meta.value = inside.and_then(|inside| unescape(inside, StrayBackslash::Dropped));
            }
            _ => meta.name.push_str(text),
        }
    }
    metas.push(meta);
    metas.retain(|meta| !meta.name.is_empty());
    metas
}

/// `C` of `a::b::C`.
pub(super) fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path).trim()
}

/// A field's name under `rename_all`.
pub(super) fn field_name(name: &str, rule: &str) -> String {
    let pascal = || {
        name.split('_').map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        })
    };
    match rule {
        "UPPERCASE" | "SCREAMING_SNAKE_CASE" => name.to_ascii_uppercase(),
        "PascalCase" => pascal().collect(),
        "camelCase" => uncapitalized(&pascal().collect::<String>()),
        "kebab-case" => name.replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => name.to_ascii_uppercase().replace('_', "-"),
        _ => name.to_owned(),
    }
}

/// A variant's name under `rename_all`.
pub(super) fn variant_name(name: &str, rule: &str) -> String {
    let snake = || {
        let mut snake = String::new();
        for (position, letter) in name.char_indices() {
            if position > 0 && letter.is_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        snake
    };
    match rule {
        "lowercase" => name.to_ascii_lowercase(),
        "UPPERCASE" => name.to_ascii_uppercase(),
        "camelCase" => uncapitalized(name),
        "snake_case" => snake(),
        "SCREAMING_SNAKE_CASE" => snake().to_ascii_uppercase(),
        "kebab-case" => snake().replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => snake().to_ascii_uppercase().replace('_', "-"),
        _ => name.to_owned(),
    }
}

fn uncapitalized(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}
