//! Fill in the middle: the control tokens that tell a model where a hole stands, and the prompt they make.
//!
//! Every family that is read here was trained on the same order: a marker and the text before the hole, a marker and
//! the text behind it, and a marker after which the hole's own text follows (PSM). Which tokens the markers are is known
//! from the model's files: a GGUF names their ids, and in a tokenizer.json they have their family's names.

/// The markers of the families, each in the order prefix, suffix, middle.
const FAMILIES: [[&str; 3]; 5] = [
    // DeepSeek-Coder, whose own names are begin, hole and end.
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    // Qwen2.5-Coder and whoever took over its names.
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder, Granite-Code.
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    // SantaCoder.
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // GLM-4 and CodeGeeX4.
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
];

/// The control tokens around a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FimMarkers {
    /// Stands before the text before the hole.
    pub prefix: u32,
    /// Stands before the text behind the hole.
    pub suffix: u32,
    /// Stands before the hole's own text.
    pub middle: u32,
}

impl FimMarkers {
    /// Tokens that the markers add to a prompt.
    pub const NUM_TOKENS: usize = 3;

    /// The markers of the first family of which the model has all three.
    pub(crate) fn find(control_id: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        FAMILIES.iter().find_map(|[prefix, suffix, middle]| {
            Self::of_ids([control_id(prefix)?, control_id(suffix)?, control_id(middle)?])
        })
    }

    /// Three different ids, in the order prefix, suffix, middle.
    pub(crate) fn of_ids([prefix, suffix, middle]: [u32; 3]) -> Option<Self> {
        let are_apart = prefix != suffix && suffix != middle && prefix != middle;
        are_apart.then_some(Self { prefix, suffix, middle })
    }

    /// The prompt for a hole; `bos` comes first.
    #[must_use]
    pub fn prompt(&self, bos: Option<u32>, pieces: &FimPieces) -> Vec<u32> {
        let mut ids: Vec<u32> = bos.into_iter().collect();
        ids.extend_from_slice(&pieces.extra);
        ids.push(self.prefix);
        ids.extend_from_slice(&pieces.prefix);
        ids.push(self.suffix);
        ids.extend_from_slice(&pieces.suffix);
        ids.push(self.middle);
        ids.extend_from_slice(&pieces.begun);
        ids
    }
}

/// What stands around a hole, as ids of ordinary text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FimPieces {
    /// Text of other files, which comes before everything.
    pub extra: Vec<u32>,
    /// The text before the hole.
    pub prefix: Vec<u32>,
    /// The text behind it.
    pub suffix: Vec<u32>,
    /// The beginning of the hole's own text.
    pub begun: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_only_whole() {
        let all = |name: &str| FAMILIES[1].iter().position(|known| *known == name).map(|at| at as u32 + 7);
        assert_eq!(FimMarkers::find(all), Some(FimMarkers { prefix: 7, suffix: 8, middle: 9 }));
        assert_eq!(FimMarkers::find(|name| all(name).filter(|&id| id != 9)), None);
        assert_eq!(FimMarkers::of_ids([1, 2, 1]), None, "one token cannot be two markers");
    }

    #[test]
    fn the_prompt_has_the_order_of_the_training() {
        let markers = FimMarkers { prefix: 7, suffix: 8, middle: 9 };
        let pieces = FimPieces { prefix: vec![1, 2], suffix: vec![3], ..FimPieces::default() };
        assert_eq!(markers.prompt(Some(0), &pieces), [0, 7, 1, 2, 8, 3, 9]);
        let pieces = FimPieces { extra: vec![4], begun: vec![5, 6], ..pieces };
        assert_eq!(markers.prompt(None, &pieces), [4, 7, 1, 2, 8, 3, 9, 5, 6]);
        assert_eq!(markers.prompt(None, &FimPieces::default()), [7, 8, 9]);
    }
}
