//! The id that a path ends in.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::error::HttpError;

/// The last segment of the path; one whose escapes are no UTF-8 names nothing.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(HttpError::UnknownPath { path: parts.uri.path().into() }),
        }
    }
}
