//! Every bound of the guide, by name, with its default and its price.

/// What one compiled constraint may cost. Over a bound is a typed error, never a hang and never a skipped part.
///
/// The defaults let real schemas and whole-language grammars through and stop inputs that would take seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuideConfig {
    /// Parts of one conjunction, over all its IRs. Default 16; a structural part costs 2 MB per sequence.
    pub max_parts: usize,
    /// Bytes of one grammar, or of one schema written as JSON. Default 512 KiB; compiling takes about 1 ms per 10 KB.
    pub max_grammar_bytes: usize,
    /// Nesting of objects and arrays in a schema. Default 128; a level costs about 10 KB of compile stack.
    pub max_schema_nesting: usize,
    /// Nodes of a schema: objects, arrays and scalars. Default 50,000.
    pub max_schema_nodes: usize,
    /// A count in a schema, such as `maxItems` or `minLength`. Default 1,000,000.
    pub max_schema_count: u64,
    /// Line breaks or spaces in a row that `limits.json_whitespace` may allow. Default 1,000.
    pub max_json_whitespace: usize,
    /// Members of one `properties` or one `enum`. Default 2,000; 5,000 optional properties would compile for 2.6 s.
    pub max_schema_members: usize,
    /// Distinct targets of references in a schema. Default 4,096.
    pub max_refs: usize,
    /// References followed one from another in a schema. Default 256; each costs about 10 KB of compile stack.
    pub max_ref_chain: usize,
    /// Rules reached one from another in a grammar. Default 512; each costs about 10 KB of compile stack.
    pub max_rule_chain: usize,
    /// Rules and terminals of a grammar. Default 5,000.
    pub max_rules: usize,
    /// Brackets inside brackets in one rule. Default 24; the parser behind Lark refuses 29.
    pub max_rule_nesting: usize,
    /// Times anything may be repeated by nested counts, as in `(a{10}){10}`, which is 100. Default 20,000;
    /// a million costs 1.5 s and 200 MB in one mask.
    pub max_repetition: u64,
    /// Bytes of one regular expression. Default 32 KiB.
    pub max_regex_bytes: usize,
    /// Memory while one regular expression is made into an automaton. Default 16 MiB, about 0.3 s.
    pub max_regex_build_bytes: usize,
    /// Transition table of one automaton. Default 64 MiB, about 10,000 forbidden words.
    pub max_automaton_bytes: usize,
    /// States of the product of several automata; above it they stay apart. Default 20,000, about 20 ms.
    pub max_product_states: usize,
    /// Cached masks of one automaton, shared by its sequences. Default 32 MiB: 2,000 states at 129k ids.
    pub mask_cache_bytes: usize,
    /// Forbidden texts of one IR. Default 10,000.
    pub max_forbidden_texts: usize,
    /// Bytes of all forbidden texts of one IR. Default 512 KiB; each byte is about one state.
    pub max_forbidden_bytes: usize,
    /// Members of one id list. Default 1,048,576.
    pub max_token_ids: usize,
    /// Masks that the search for a complete output may fill at admission, where the product of the parts does not
    /// settle it. Default 2,000: 40 ms for schemas at 32k ids.
    pub witness_masks: usize,
    /// States of the product of all parts that are looked at for a shared text or the proof that there is none.
    /// Default 50,000, about 100 ms; usual schemas take some hundred.
    pub max_proof_states: usize,
    /// States that are looked at for a complete output of fewer tokens than the one of the fewest bytes has. Default
    /// 1,000, about 1 ms.
    pub max_spelling_states: usize,
    /// Proofs run to find out which parts contradict each other. Default 32; each costs up to `max_proof_states`.
    pub max_conflict_proofs: usize,
    /// Prompt bytes that can still matter for forbidden text of `scope: document`. Default 64 KiB.
    pub max_seed_bytes: usize,
    /// Stack of the thread that compiles. Default 256 MiB of address space; only what is touched is memory.
    pub compile_stack_bytes: usize,
    /// Fuel for building the lexer of a grammar. Default 1,000,000, about 20 ms.
    pub initial_lexer_fuel: u64,
    /// Fuel for the lexer in one mask. Default 500,000, about 35 ms.
    pub step_lexer_fuel: u64,
    /// Earley items of one mask. Default 500,000, about 25 ms; whole-language grammars need more than 50,000.
    pub step_items: usize,
    /// Earley items of one byte. Default 2,000.
    pub row_items: usize,
    /// States of one lexer. Default 250,000, at 1-2 KB each.
    pub max_lexer_states: usize,
    /// Symbols of a grammar after expansion. Default 500,000.
    pub max_grammar_symbols: usize,
}

impl Default for GuideConfig {
    fn default() -> Self {
        Self {
            max_parts: 16,
            max_grammar_bytes: 512 << 10,
            max_schema_nesting: 128,
            max_schema_nodes: 50_000,
            max_schema_count: 1_000_000,
            max_json_whitespace: 1_000,
            max_schema_members: 2_000,
            max_refs: 4_096,
            max_ref_chain: 256,
            max_rule_chain: 512,
            max_rules: 5_000,
            max_rule_nesting: 24,
            max_repetition: 20_000,
            max_regex_bytes: 32 << 10,
            max_regex_build_bytes: 16 << 20,
            max_automaton_bytes: 64 << 20,
            max_product_states: 20_000,
            mask_cache_bytes: 32 << 20,
            max_forbidden_texts: 10_000,
            max_forbidden_bytes: 512 << 10,
            max_token_ids: 1 << 20,
            witness_masks: 2_000,
            max_proof_states: 50_000,
            max_spelling_states: 1_000,
            max_conflict_proofs: 32,
            max_seed_bytes: 64 << 10,
            compile_stack_bytes: 256 << 20,
            initial_lexer_fuel: 1_000_000,
            step_lexer_fuel: 500_000,
            step_items: 500_000,
            row_items: 2_000,
            max_lexer_states: 250_000,
            max_grammar_symbols: 500_000,
        }
    }
}
