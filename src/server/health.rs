//! `GET /health`, `GET /`, and the schema of the constraint IR: what the server says about itself.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{App, ROUTES};
use crate::maze::{ConstraintIr, Health};

/// Live as long as it answers; the body tells how the engine is.
pub(crate) async fn health(State(app): State<App>) -> Json<Health> {
    Json(app.maze.health())
}

pub(crate) async fn index(State(app): State<App>) -> Json<Value> {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "model": app.maze.model().id,
        "endpoints": ROUTES,
    }))
}

pub(crate) async fn constraint_ir_schema() -> Json<Value> {
    Json(ConstraintIr::schema())
}
