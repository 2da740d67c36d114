//! `GET /health`, `GET /ready`, `GET /`, and the schema of the constraint IR: what the server says about itself.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{App, ROUTES};
use crate::maze::{ConstraintIr, Health, Readiness};

/// Live as long as it answers; the body tells how the engine is.
pub(crate) async fn health(State(app): State<App>) -> Json<Health> {
    Json(app.maze.health())
}

/// Whether the next request would find a place: what a load balancer asks.
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let readiness = app.maze.readiness();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
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
