//! Bodies of requests, bounded in bytes and in time at every door.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::timeout;

/// Time for a body to arrive in.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLarge,
    /// It did not arrive in time.
    Late,
    /// The connection ended, or what came on it is no HTTP.
    Broken,
}

/// The whole body, where it has at most so many bytes.
pub(crate) async fn read(body: Body, most: usize, patience: Duration) -> Result<Bytes, Refused> {
    let read = async {
        let mut pieces = body.into_data_stream();
        let mut read = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| Refused::Broken)?;
            if read.len() + piece.len() > most {
                return Err(Refused::TooLarge);
            }
            read.extend_from_slice(&piece);
        }
        Ok(read.freeze())
    };
    timeout(patience, read).await.unwrap_or(Err(Refused::Late))
}
