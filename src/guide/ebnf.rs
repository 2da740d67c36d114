//! EBNF and GBNF.
use super::{GuideConfig, GuideError};
fn refused(part: &str) -> Result<String, GuideError> {
    Err(GuideError::UnsupportedPart { part: part.to_owned(), why: "only Lark is read yet".to_owned() })
}
pub(crate) fn ebnf_to_lark(
    part: &str,
    _source: &str,
    _start: Option<&str>,
    _config: &GuideConfig,
) -> Result<String, GuideError> {
    refused(part)
}
pub(crate) fn gbnf_to_lark(
    part: &str,
    _source: &str,
    _start: Option<&str>,
    _config: &GuideConfig,
) -> Result<String, GuideError> {
    refused(part)
}
