//! Every bound of the guide, by name, with its default and its price.

use serde::{Deserialize, Serialize};

/// What one compiled constraint may cost. Over a bound is a typed error, never a hang and never a skipped part.
///
/// The defaults let real schemas and whole-language grammars through and stop inputs that would take seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuideConfig {
    /// Parts of one conjunction, over all its IRs. Default 16; a structural part costs 2 MB per sequence.
    pub max_parts: usize,
    /// Bytes of one grammar, or of one schema written as JSON. Default 512 KiB; compiling takes about 1 ms per 10 KB.
    pub max_grammar_bytes: usize,
    /// Nesting of objects and arrays in a schema. Default 128; a level costs about 10 KB of compile stack.
    pub max_schema_nesting: usize,
    /// Nodes of a schema: objects, arrays and scalars. Default 50,000.
    pub max_schema_nodes: usize,
    /// Bytes of the JSON pointers to all nodes of a schema. Default 16 MiB; a long name far up stands in the pointer of
    /// everything below it, and each pointer is kept a few times while the schema is read.
    pub max_schema_path_bytes: usize,
    /// A count in a schema, such as `maxItems` or `minLength`. Default 1,000,000.
    pub max_schema_count: u64,
    /// Line breaks or spaces in a row that `limits.json_whitespace` may allow. Default 1,000.
    pub max_json_whitespace: usize,
    /// Members of one `properties` or one `enum`. Default 2,000; 5,000 optional properties would compile for 2.6 s.
    pub max_schema_members: usize,
    /// Distinct targets of references in a schema. Default 4,096.
    pub max_refs: usize,
    /// Cases that the keywords of a schema make together, such as the branches of `anyOf` beside those of an `if`.
    /// Default 50,000, about 0.5 s.
    pub max_schema_expansion: usize,
    /// A `multipleOf` as an integer, its decimal places taken away. Default 10,000; it is the number of states of an
    /// automaton, and 100 million would take 4 GB.
    pub max_multiple: u64,
    /// States of the automaton of patterns that are complemented or compared. Default 2,000, about 10 ms.
    pub max_pattern_states: usize,
    /// Sets of keys that overlapping `patternProperties` of one object make. Default 64; each is a pattern of its own.
    pub max_key_sets: usize,
    /// Levels of items and members down which branches of `oneOf` are looked at to tell them apart. Default 3.
    pub max_disjoint_depth: usize,
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
    /// Memory while one regular expression is made into a table, an eighth of it for sets of NFA states. Default 16 MiB,
    /// at most about 0.5 s; past it the automaton is built lazily.
    pub max_regex_build_bytes: usize,
    /// Characters that the classes of one group's, grammar's or schema's patterns name, counted before any is expanded.
    /// Default 50,000,000, which is 350 times `\w`; folding their case takes about 0.5 s.
    pub max_regex_class_chars: u64,
    /// States of a table times states of the expression it is made from. Default 20,000,000, about 1 s: nested optional
    /// repetitions take a walk through the whole expression for each state.
    pub max_regex_work: u64,
    /// Transition table of one automaton. Default 64 MiB, about 10,000 forbidden words.
    pub max_automaton_bytes: usize,
    /// States of the product of several automata; above it they stay apart. Default 20,000, about 20 ms.
    pub max_product_states: usize,
    /// Cached masks of all automata of one compiled constraint. Default 32 MiB: 2,000 whole rows at 129k ids, and ten
    /// to a hundred times as many masks of forbidden text, which are kept as differences.
    pub mask_cache_bytes: usize,
    /// What the states of one structural part's lexer may keep of their masks. Default 4 MiB, which code in one language
    /// does not fill at 32k ids.
    pub lexer_mask_bytes: usize,
    /// The same of all lexers together, of which each sequence has its own; past it masks are computed anew. Default
    /// 32 MiB.
    pub all_lexer_mask_bytes: usize,
    /// Nodes of the vocabulary's trie that a mask must have walked for its lexer's state to keep it. Default 2,000, about
    /// 10 us.
    pub min_lexer_mask_walk: usize,
    /// Soft biases of one request. Default 64; each costs about 2 us for a list that was not met before.
    pub max_soft: usize,
    /// Greatest magnitude of a soft bias, in logit units. Default 100, which settles any choice.
    pub max_bias: u32,
    /// Cached lists of what soft biases add, of one compiled constraint. Default 8 MiB, 4-20 KB a list at 129k ids.
    pub bias_cache_bytes: usize,
    /// Bytes of one expression before it is made into an automaton lazily. Default 64 MiB.
    pub max_lazy_nfa_bytes: usize,
    /// What one lazily built automaton may hold; a sequence that needs more fails. Default 64 MiB: some 100,000 states.
    pub max_lazy_bytes: usize,
    /// Steps of a lazily built automaton's expression in one mask. Default 50,000,000, about 0.3 s.
    pub lazy_step_fuel: u64,
    /// Columns of one indentation, at most 254. Default 200; a line that is indented further must be blank.
    pub max_indent_width: u8,
    /// Blocks inside blocks. Default 100, as in CPython.
    pub max_indent_depth: u8,
    /// Open brackets where the layout is followed. Default 200, as in CPython.
    pub max_open_brackets: u8,
    /// Stacks of indentations that one constraint's sequences may meet; a sequence that needs more fails. Default
    /// 65,536 of at most 262,143, 4 MB; a file of 1,000 lines has some hundred.
    pub max_layout_stacks: usize,
    /// Forbidden texts of one IR. Default 10,000.
    pub max_forbidden_texts: usize,
    /// Bytes of all forbidden texts of one IR. Default 512 KiB; each byte is about one state.
    pub max_forbidden_bytes: usize,
    /// Members of one id list. Default 1,048,576.
    pub max_token_ids: usize,
    /// Structures of one IR's regions. Default 128; each is compiled twice, at 1 ms for a small schema.
    pub max_region_structures: usize,
    /// Triggers of one IR's regions. Default 64; each is a lexeme that runs beside all others in free text.
    pub max_region_triggers: usize,
    /// Bytes of all triggers, begins and ends of one IR's regions. Default 16 KiB.
    pub max_region_tag_bytes: usize,
    /// Bytes of one IR's regions, written as one grammar. Default 1 MiB; compiling takes about 1 ms per 10 KB.
    pub max_region_bytes: usize,
    /// Masks that the search for a complete output may fill at admission, where the product of the parts does not
    /// settle it; a hard mask counts as many. Default 2,000: 40 ms for schemas at 32k ids.
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
    /// Bytes of the text before a hole that language grammars read. Default 256 KiB, at about 1 us a byte for each choice;
    /// a document with more is judged by its hole alone.
    pub max_prefix_bytes: usize,
    /// Bytes of the text behind a hole that language grammars read wherever the hole may be about to end. Default 32 KiB,
    /// at about 1 us a byte where all of it goes through, which most places refuse within a few bytes; a document with
    /// more is judged by its hole alone.
    pub max_suffix_bytes: usize,
    /// States of which it is remembered whether the text behind the hole may follow, in one sequence. Default 4,096.
    pub max_seam_states: usize,
    /// Texts that are tried to join an output to the text behind its hole, where its budget ends before one did. Default
    /// 8,000, about 0.2 s at most.
    pub max_joints: usize,
    /// States that are looked at for a joint that takes the whole output's place, where no other is found. Default
    /// 40,000, about 0.5 s at most and once for each document; one that is found takes some 0.01 s.
    pub max_joint_states: usize,
    /// Joints that such a search may propose in vain, because conditions of a grammar are not followed. Default 64.
    pub max_joint_texts: usize,
    /// Documents of which one constraint remembers what that search found. Default 64, some 100 bytes each.
    pub max_known_joints: usize,
    /// Masks that one search for a witness may cost while a sequence runs, a hard mask counting as many. Default 512,
    /// about 5-10 ms; a search that runs out leaves the token to chance or takes it back.
    pub witness_fuel_per_token: usize,
    /// States of the product of all parts that are looked at for the shortest end from where a sequence stands. Default
    /// 20,000, about 20 ms; usual ends take some hundred.
    pub max_closing_states: usize,
    /// Ends that are tried for real there, because conditions of a grammar are not followed. Default 8.
    pub max_closing_texts: usize,
    /// States that following one sequence's structural parts may take, at about 100 bytes each; past it a witness is
    /// looked for without following them. Default 200,000.
    pub max_course_states: usize,
    /// States above which what a sequence's course has learned is not kept for the next sequence. Default 20,000, 2 MB.
    pub max_spare_course_states: usize,
    /// Searches in a row that may find nothing before a sequence stops looking for a while. Default 4.
    pub max_witness_failures: usize,
    /// Tokens refused at one place before the witness itself is followed. Default 4; each costs a forward pass.
    pub max_refusals: usize,
    /// Steps back out of dead ends in one sequence. Default 64; each costs a forward pass.
    pub max_backtracks: usize,
    /// Newest tokens kept from the client where parts may dead-end and no witness is known. Default 8.
    pub hold_back_tokens: usize,
    /// The least that one token is taken to lengthen the shortest end by, in tokens. Default 16; more looks earlier
    /// for a way to close in budget.
    pub min_closing_margin: u32,
    /// Forced tokens appended in one block. Default 64.
    pub max_forced_tokens: usize,
    /// Bytes of forced text that are looked ahead. Default 1,024.
    pub max_forced_bytes: usize,
    /// Matchers of finished sequences kept warm for the next ones, for each compiled constraint; and as many of what
    /// follows its grammars to their end. Default 4.
    pub max_spare_matchers: usize,
    /// Both, of all constraints together. Default 64, at about 2 MB per structural part, more after hard masks.
    pub max_spares: usize,
    /// Sequences that one matcher serves before its lexer is thrown away. Default 64.
    pub max_matcher_uses: u32,
    /// Stack of the thread that compiles. Default 256 MiB of address space; only what is touched is memory.
    pub compile_stack_bytes: usize,
    /// Fuel for building the lexer of a grammar, and as much again for the superset that its verdict is read from.
    /// Default 8,000,000, at most about 1 s; a language's grammar with every rule takes up to 2,000,000 for the first
    /// and 6,000,000 for the second.
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
            max_schema_path_bytes: 16 << 20,
            max_schema_count: 1_000_000,
            max_json_whitespace: 1_000,
            max_schema_members: 2_000,
            max_refs: 4_096,
            max_schema_expansion: 50_000,
            max_multiple: 10_000,
            max_pattern_states: 2_000,
            max_key_sets: 64,
            max_disjoint_depth: 3,
            max_ref_chain: 256,
            max_rule_chain: 512,
            max_rules: 5_000,
            max_rule_nesting: 24,
            max_repetition: 20_000,
            max_regex_bytes: 32 << 10,
            max_regex_build_bytes: 16 << 20,
            max_regex_class_chars: 50_000_000,
            max_regex_work: 20_000_000,
            max_automaton_bytes: 64 << 20,
            max_product_states: 20_000,
            mask_cache_bytes: 32 << 20,
            lexer_mask_bytes: 4 << 20,
            all_lexer_mask_bytes: 32 << 20,
            min_lexer_mask_walk: 2_000,
            max_soft: 64,
            max_bias: 100,
            bias_cache_bytes: 8 << 20,
            max_lazy_nfa_bytes: 64 << 20,
            max_lazy_bytes: 64 << 20,
            lazy_step_fuel: 50_000_000,
            max_indent_width: 200,
            max_indent_depth: 100,
            max_open_brackets: 200,
            max_layout_stacks: 1 << 16,
            max_forbidden_texts: 10_000,
            max_forbidden_bytes: 512 << 10,
            max_token_ids: 1 << 20,
            max_region_structures: 128,
            max_region_triggers: 64,
            max_region_tag_bytes: 16 << 10,
            max_region_bytes: 1 << 20,
            witness_masks: 2_000,
            max_proof_states: 50_000,
            max_spelling_states: 1_000,
            max_conflict_proofs: 32,
            max_seed_bytes: 64 << 10,
            max_prefix_bytes: 256 << 10,
            max_suffix_bytes: 32 << 10,
            max_seam_states: 4_096,
            max_joints: 8_000,
            max_joint_states: 40_000,
            max_joint_texts: 64,
            max_known_joints: 64,
            witness_fuel_per_token: 512,
            max_closing_states: 20_000,
            max_closing_texts: 8,
            max_course_states: 200_000,
            max_spare_course_states: 20_000,
            max_witness_failures: 4,
            max_refusals: 4,
            max_backtracks: 64,
            hold_back_tokens: 8,
            min_closing_margin: 16,
            max_forced_tokens: 64,
            max_forced_bytes: 1_024,
            max_spare_matchers: 4,
            max_spares: 64,
            max_matcher_uses: 64,
            compile_stack_bytes: 256 << 20,
            initial_lexer_fuel: 8_000_000,
            step_lexer_fuel: 500_000,
            step_items: 500_000,
            row_items: 2_000,
            max_lexer_states: 250_000,
            max_grammar_symbols: 500_000,
        }
    }
}
