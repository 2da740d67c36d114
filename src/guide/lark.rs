//! stub
use super::structural::Rejection;
use super::{GuideConfig, GuideError};
pub(crate) fn check(
    _part: &str,
    source: &str,
    _start: Option<&str>,
    _config: &GuideConfig,
) -> Result<String, GuideError> {
    Ok(format!("{source}\n%llguidance {{\"no_forcing\": true}}\n"))
}
pub(crate) fn explain(part: &str, rejection: Rejection) -> GuideError {
    match rejection {
        Rejection::Unsatisfiable => GuideError::Unsatisfiable { parts: vec![part.to_owned()] },
        Rejection::TooLarge(what) => GuideError::TooLarge { part: part.to_owned(), what, size: 1, limit: 0 },
        Rejection::Panic(message) => GuideError::internal(part, message),
        Rejection::Source { place, message } => {
            let (line, column) = place.unwrap_or((1, 1));
            GuideError::InvalidGrammar { part: part.to_owned(), line, column, message }
        }
    }
}
