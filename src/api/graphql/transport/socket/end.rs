//! How a socket ends.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::{
    task::JoinError,
    time::{error::Elapsed, sleep, timeout},
};

use crate::api::graphql::transport::reply;

/// Time for the other side to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a socket ends.
pub(super) enum End {
    /// We say so, with a code and a reason of at most 123 bytes.
    Close(u16, &'static str),
    /// The other side says so.
    Left,
    /// The other side is gone.
    Gone,
    /// The other side doesn't read.
    Slow,
}

/// Whether a socket goes on.
pub(super) type Step<T = ()> = Result<T, End>;

impl End {
    /// For figures: the close code, or who went.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Close(code, _) => code.to_string(),
            Self::Left => "left".to_owned(),
            Self::Gone => "gone".to_owned(),
            Self::Slow => "slow".to_owned(),
        }
    }

    /// Says so to the other side, where it still listens.
    pub(super) async fn say(self, socket: WebSocket) {
        if matches!(self, Self::Close(..) | Self::Left) {
            timeout(FAREWELL, farewell(socket, self)).await.ok();
        }
    }
}

/// What became of a write.
pub(super) const fn written(outcome: &Result<Result<(), axum::Error>, Elapsed>) -> Step {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Slow),
    }
}

/// Says why the socket ends, and answers the other side's close.
///
/// Closing with unread input makes the system reset the connection and drop the code on its way, so what still comes is
/// read. A message that cannot be read ends reading for good: then the other side is given the time to take the code.
async fn farewell(mut socket: WebSocket, end: End) {
    let mut readable = true;
    if let End::Close(code, reason) = end {
        readable = !matches!(code, close_code::SIZE | close_code::INVALID);
        socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await.ok();
    }
    while let Some(Ok(_)) = socket.recv().await {}
    if !readable {
        sleep(FAREWELL).await;
    }
}

/// A message that cannot be read: too large, not a WebSocket's, or the connection broke.
pub(super) fn unreadable(error: &axum::Error) -> End {
    use tokio_tungstenite::tungstenite::Error;
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::Capacity(_)) => End::Close(close_code::SIZE, "message too large"),
        Some(Error::Utf8(_)) => End::Close(close_code::INVALID, "message is not UTF-8"),
        _ => End::Gone,
    }
}

/// Operations catch their own panics; what escapes is a fault in the serving itself.
pub(super) fn after(ended: Result<(), JoinError>) -> Step {
    match ended {
        Err(error) if error.is_panic() => {
            reply::panicked(&*error.into_panic());
            Err(End::Close(4500, "Internal server error"))
        }
        _ => Ok(()),
    }
}
