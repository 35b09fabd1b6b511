//! The model, the rules and the ports of Caisson.
//!
//! Deliberately absent: input and output, a clock, randomness, an async runtime. Whatever comes from outside comes in as an argument,
//! whatever goes out is returned as data. Adapters fill the traits of [`ports`].

pub mod definition;
pub mod engine;
pub mod error;
pub mod expr;
pub mod ids;
pub mod json;
pub mod model;
pub mod plugin;
pub mod ports;
pub mod schema;
pub mod status;
pub mod time;
pub mod trace;
