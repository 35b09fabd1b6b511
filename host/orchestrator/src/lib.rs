//! What moves runs: service, relay, executor and scheduler. Knows the ports of core and nothing behind them.

mod admission;
mod batch;
mod cell;
mod error;
mod executor;
mod hosts;
mod inbox;
mod live;
pub mod memory;
mod plugins;
mod relay;
mod replay;
mod requests;
mod retention;
mod scheduler;
mod service;
mod start;
mod values;

pub use admission::Load;
pub use error::{Error, Kind};
pub use hosts::LEASE;
pub use live::{Live, News, Watch};
pub use plugins::{Consent, FILES_ACTOR, Install, Plugin, Plugins};
pub use requests::{Decide, SaveDefinition, SendSignal, StartRun};
pub use retention::{Keep, Sweeper, Swept};
pub use service::{Options, Ports, Service};
