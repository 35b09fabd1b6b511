//! The two sets of statuses. A run has a status; a *state* is a node of a definition.

use serde::{Deserialize, Serialize};

macro_rules! statuses {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every status, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The status as it is written in the API and the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            /// Reads it back; `None` for any other text.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

statuses!(
    /// Where a run stands.
    RunStatus {
        /// Created, nothing entered yet.
        Pending = "PENDING",
        /// Something in it can progress.
        Running = "RUNNING",
        /// Everything open waits, at least one thing for a human's decision.
        WaitingApproval = "WAITING_APPROVAL",
        /// Everything open waits for signals, timers or child runs.
        WaitingSignal = "WAITING_SIGNAL",
        /// An operator paused it: results are recorded, nothing new starts.
        Paused = "PAUSED",
        /// Ended well.
        Completed = "COMPLETED",
        /// Ended by an error that nothing caught.
        Failed = "FAILED",
        /// Ended by an operator or by its parent.
        Cancelled = "CANCELLED",
        /// Ended by its time limit, or by an approval that nobody gave in time.
        TimedOut = "TIMED_OUT",
    }
);

statuses!(
    /// Where a step stands.
    StepStatus {
        /// Ready, waiting for an executor.
        Pending = "PENDING",
        /// An executor has it, or its branches, items or child are under way.
        Running = "RUNNING",
        /// Parked until a human decides.
        WaitingApproval = "WAITING_APPROVAL",
        /// Parked until a signal, a timer or a child run wakes it.
        WaitingSignal = "WAITING_SIGNAL",
        /// An attempt failed; the next one waits for its time.
        Retrying = "RETRYING",
        /// Ended well. Never runs again.
        Succeeded = "SUCCEEDED",
        /// Ended by an error.
        Failed = "FAILED",
        /// Never ran.
        Skipped = "SKIPPED",
        /// Ended because its run or its branch was.
        Cancelled = "CANCELLED",
        /// Ended by its time limit.
        TimedOut = "TIMED_OUT",
    }
);

impl RunStatus {
    /// Whether the run has ended. A run that has ended never moves again.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut => true,
            Self::Pending | Self::Running | Self::WaitingApproval | Self::WaitingSignal | Self::Paused => false,
        }
    }
}

impl StepStatus {
    /// Whether the step has ended.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled | Self::TimedOut => true,
            Self::Pending | Self::Running | Self::WaitingApproval | Self::WaitingSignal | Self::Retrying => false,
        }
    }
}
