//! The engine's clock: the host's, through WASI, read anew each time, so that nothing of it stays in a prepared image.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boa_engine::context::HostHooks;
use boa_engine::context::time::{Clock, JsInstant};

/// The host's wall clock.
pub struct HostClock;

impl HostClock {
    fn since_epoch() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Clock for HostClock {
    fn now(&self) -> JsInstant {
        let now = Self::since_epoch();
        JsInstant::new(now.as_secs(), now.subsec_nanos())
    }

    fn system_time_millis(&self) -> i64 {
        i64::try_from(Self::since_epoch().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Local time is UTC on every host.
pub struct Utc;

impl HostHooks for Utc {
    fn local_timezone_offset_seconds(&self, _: i64) -> i32 {
        0
    }
}
