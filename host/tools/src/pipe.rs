//! A server's standard input and output as rmcp's transport: a message a line, of bounded length.
//!
//! rmcp's own codec holds a line however long it is. Here a line beyond the limit is read past, and whoever waits for the answer in it
//! is told that it is too large. What is no message is skipped. A server that writes and writes without ever answering is cut off.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::RoleClient;
use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use crate::lines::{LINE_BYTES_MAX, Line, Lines};

/// One read of a pipe.
const READ_BYTES: usize = 64 << 10;
/// What a server writes between two answers: progress and log messages, or a result that is read past. More is a flood.
pub(crate) const UNASKED_BYTES_MAX: u64 = 32 << 20;
/// The same in messages: each costs a task.
pub(crate) const UNASKED_MESSAGES_MAX: u32 = 10_000;

/// Our own word, in the place of an answer that is too long to read. No server can do harm by saying it too.
pub(crate) const TOO_LONG: ErrorCode = ErrorCode(-32_098);
/// Our own word, in the place of an answer that does not read.
pub(crate) const UNREADABLE: ErrorCode = ErrorCode(-32_097);

/// Why a connection was cut, if it was.
pub(crate) type Cut = Arc<Mutex<Option<Cow<'static, str>>>>;

/// Both ends of a server's process.
pub(crate) struct Pipe {
    /// `None` once closed: the server sees the end of its input.
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    lines: Lines<BufReader<ChildStdout>>,
    unasked: Unasked,
    cut: Cut,
}

/// What came since the last answer.
#[derive(Debug, Default)]
struct Unasked {
    bytes: u64,
    messages: u32,
}

impl Unasked {
    fn over(&self, under_way: u64) -> bool {
        self.bytes + under_way > UNASKED_BYTES_MAX || self.messages > UNASKED_MESSAGES_MAX
    }
}

impl Pipe {
    pub(crate) fn new(stdin: ChildStdin, stdout: ChildStdout, cut: Cut) -> Self {
        let lines = Lines::new(BufReader::with_capacity(READ_BYTES, stdout), LINE_BYTES_MAX);
        Self { stdin: Arc::new(tokio::sync::Mutex::new(Some(stdin))), lines, unasked: Unasked::default(), cut }
    }
}

/// What a line holds for us.
fn message(line: Line) -> Option<ServerJsonRpcMessage> {
    if line.is_long() {
        let too_long = |id| error(TOO_LONG, "the answer is too long", id);
        return line.id.map(too_long);
    }
    if line.kept.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    match serde_json::from_slice(&line.kept) {
        Ok(message) => Some(message),
        Err(cause) => {
            let mut scan = crate::scan::IdScan::default();
            scan.feed(&line.kept);
            let text = String::from_utf8_lossy(&line.kept[..line.kept.len().min(200)]).into_owned();
            tracing::debug!(%cause, ?text, "a tool server wrote what is no message");
            // A request of the server's own has an id too, of its own counting; to those we answer nothing anyway.
            scan.id().map(|id| error(UNREADABLE, "the answer does not read", id))
        }
    }
}

fn error(code: ErrorCode, text: &'static str, id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(code, text, None), Some(id))
}

impl Transport<RoleClient> for Pipe {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let Some(stdin) = stdin.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
            stdin.write_all(&line).await?;
            stdin.flush().await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            // The end of its output is the end of the server.
            let line = self.lines.step().await.ok()?;
            if self.unasked.over(self.lines.under_way()) {
                *self.cut.lock() = Some("it wrote without end and answered nothing".into());
                return None;
            }
            let Some(line) = line else { continue };
            self.unasked.bytes += line.bytes;
            let Some(message) = message(line) else { continue };
            match &message {
                ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_) => {
                    self.unasked = Unasked::default();
                }
                ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => {
                    self.unasked.messages += 1;
                }
            }
            return Some(message);
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.stdin.lock().await.take();
        Ok(())
    }
}
