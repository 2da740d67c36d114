//! The model that is compiled into the binaries; the only `include_bytes!` of its weights.

use ananke::maze::EmbeddedModel;

/// The embedded model, where this build has one.
#[cfg(feature = "embedded-model")]
pub(crate) fn model() -> Option<EmbeddedModel> {
    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/ananke-nano/", $name))
        };
    }
    Some(EmbeddedModel {
        name: "ananke-nano",
        config: file!("config.json"),
        generation_config: file!("generation_config.json"),
        tokenizer: file!("tokenizer.json"),
        tokenizer_config: file!("tokenizer_config.json"),
        weights: file!("model.safetensors"),
    })
}

/// The embedded model, where this build has one.
#[cfg(not(feature = "embedded-model"))]
pub(crate) fn model() -> Option<EmbeddedModel> {
    None
}
