//! What rmcp says of a call that failed, in our words.

use caisson_core::ports::ToolError;
use rmcp::model::ErrorCode;
use rmcp::service::ServiceError;

use crate::pipe::{TOO_LONG, UNREADABLE};
use crate::result::{ERROR_BYTES_MAX, cut};

/// What to tell of a call to `tool`, of which results up to `max` bytes were wanted. `ended` says why the server is gone, if it is.
pub(crate) fn of_call(error: ServiceError, tool: &str, max: u64, ended: impl FnOnce() -> String) -> ToolError {
    match error {
        ServiceError::McpError(error) => match error.code {
            TOO_LONG => ToolError::TooLarge(max),
            UNREADABLE => ToolError::Failed(format!("what tool '{tool}' answers does not read as MCP")),
            ErrorCode::INVALID_PARAMS => ToolError::Invalid(said(tool, &error.message)),
            _ => ToolError::Failed(said(tool, &error.message)),
        },
        ServiceError::TransportClosed | ServiceError::TransportSend(_) | ServiceError::Cancelled { .. } => {
            ToolError::Unavailable(ended())
        }
        ServiceError::Timeout { .. } => ToolError::Timeout,
        ServiceError::UnexpectedResponse => {
            ToolError::Failed(format!("what tool '{tool}' answers is no result of a tool"))
        }
        other => ToolError::Failed(said(tool, &other.to_string())),
    }
}

fn said(tool: &str, message: &str) -> String {
    format!("tool '{tool}' failed: {}", cut(message, ERROR_BYTES_MAX))
}
