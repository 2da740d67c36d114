//! The fields that every request for text has, whichever endpoint it goes to: how tokens are drawn, and what binds the
//! answer.

/// A request body with its own fields and these behind them, and methods that take each group out of it and put it in.
///
/// serde's `flatten` would do it too, but it loses the place of an error and lets unknown fields through.
macro_rules! request_body {
    ($(#[$meta:meta])* pub(crate) struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($own)*
            pub(crate) temperature: Option<f64>,
            pub(crate) top_p: Option<f64>,
            pub(crate) top_k: Option<u32>,
            pub(crate) min_p: Option<f64>,
            pub(crate) repetition_penalty: Option<f64>,
            pub(crate) frequency_penalty: Option<f64>,
            pub(crate) presence_penalty: Option<f64>,
            pub(crate) logit_bias: Option<std::collections::BTreeMap<String, f64>>,
            pub(crate) response_format: Option<$crate::server::openai::ResponseFormat>,
            pub(crate) structured_outputs: Option<$crate::server::openai::StructuredOutputs>,
            /// vLLM's older names of `structured_outputs`.
            pub(crate) guided_json: Option<serde_json::Value>,
            pub(crate) guided_regex: Option<String>,
            pub(crate) guided_choice: Option<Vec<String>>,
            pub(crate) guided_grammar: Option<String>,
            /// Which of its engines vLLM is to use. There is one here; nothing is done with it.
            #[serde(rename = "guided_decoding_backend")]
            pub(crate) _guided_decoding_backend: Option<String>,
            /// Refused: `limits.json_whitespace` in a `constraint_ir` says it exactly.
            pub(crate) guided_whitespace_pattern: Option<String>,
            /// llama.cpp's: GBNF.
            pub(crate) grammar: Option<String>,
            /// llama.cpp's.
            pub(crate) json_schema: Option<serde_json::Value>,
            pub(crate) constraint_ir: Option<serde_json::Value>,
            pub(crate) constraint_spec: Option<serde_json::Value>,
            /// A constraint set, or what `constraint_ir` takes.
            pub(crate) constraints: Option<serde_json::Value>,
            pub(crate) context: Option<$crate::server::openai::ContextField>,
            /// A rule set of the server, by name.
            pub(crate) profile: Option<String>,
            /// Whether an older shape is refused when a hard part of it would be lost. Default: true.
            pub(crate) strict: Option<bool>,
        }

        impl $name {
            pub(crate) fn take_sampling(&mut self) -> $crate::server::sampling::SamplingFields {
                $crate::server::sampling::SamplingFields {
                    temperature: self.temperature,
                    top_p: self.top_p,
                    top_k: self.top_k,
                    min_p: self.min_p,
                    repetition_penalty: self.repetition_penalty,
                    frequency_penalty: self.frequency_penalty,
                    presence_penalty: self.presence_penalty,
                    logit_bias: self.logit_bias.take(),
                }
            }

            pub(crate) fn take_constraints(&mut self) -> $crate::server::constraints::ConstraintFields {
                $crate::server::constraints::ConstraintFields {
                    response_format: self.response_format.take(),
                    structured_outputs: self.structured_outputs.take(),
                    guided_json: self.guided_json.take(),
                    guided_regex: self.guided_regex.take(),
                    guided_choice: self.guided_choice.take(),
                    guided_grammar: self.guided_grammar.take(),
                    guided_whitespace_pattern: self.guided_whitespace_pattern.take(),
                    grammar: self.grammar.take(),
                    json_schema: self.json_schema.take(),
                    constraint_ir: self.constraint_ir.take(),
                    constraint_spec: self.constraint_spec.take(),
                    constraints: self.constraints.take(),
                    context: self.context.take(),
                    profile: self.profile.take(),
                    strict: self.strict,
                }
            }

            /// Takes both groups from the body of another endpoint.
            #[allow(dead_code, reason = "only what another body is read into is given them")]
            pub(crate) fn put(
                &mut self,
                sampling: $crate::server::sampling::SamplingFields,
                constraints: $crate::server::constraints::ConstraintFields,
            ) {
                self.temperature = sampling.temperature;
                self.top_p = sampling.top_p;
                self.top_k = sampling.top_k;
                self.min_p = sampling.min_p;
                self.repetition_penalty = sampling.repetition_penalty;
                self.frequency_penalty = sampling.frequency_penalty;
                self.presence_penalty = sampling.presence_penalty;
                self.logit_bias = sampling.logit_bias;
                self.response_format = constraints.response_format;
                self.structured_outputs = constraints.structured_outputs;
                self.guided_json = constraints.guided_json;
                self.guided_regex = constraints.guided_regex;
                self.guided_choice = constraints.guided_choice;
                self.guided_grammar = constraints.guided_grammar;
                self.guided_whitespace_pattern = constraints.guided_whitespace_pattern;
                self.grammar = constraints.grammar;
                self.json_schema = constraints.json_schema;
                self.constraint_ir = constraints.constraint_ir;
                self.constraint_spec = constraints.constraint_spec;
                self.constraints = constraints.constraints;
                self.context = constraints.context;
                self.profile = constraints.profile;
                self.strict = constraints.strict;
            }
        }
    };
}

pub(crate) use request_body;
