//! Outgoing HTTP to granted hosts. Redirects are followed by the host, which checks each hop as it checks the first.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use caisson_sdk::{Failure, http};
//! # #[derive(serde::Deserialize)] struct Created { id: String }
//! # fn create(order: &serde_json::Value) -> Result<String, Failure> {
//! let created: Created = http::post("https://api.example.com/orders")
//!     .bearer_secret("ORDERS_TOKEN")
//!     .json(order)
//!     .timeout(Duration::from_secs(5))
//!     .send()?
//!     .error_for_status()?
//!     .json()?;
//! # Ok(created.id)
//! # }
//! ```
//!
//! The host adds an `idempotency-key` that stays the same when the step is tried again, unless the request has one of its own.

mod date;
mod request;
mod response;

pub use request::{Request, delete, get, head, patch, post, put, request};
pub use response::Response;
