//! One connection at a time: opening it, listening, noticing that it is dead.

use std::{pin::pin, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, StatusCode, header::USER_AGENT},
        protocol::WebSocketConfig,
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{firehose, jetstream},
    Dialect, Frame, Item, Notice, REWIND_OTHER, REWIND_SAME, Reading, Start, StreamSettings, Wanted, now_us,
};
use crate::telemetry::Outage;

/// A Jetstream whose first message is this much later than what was asked for, in µs, no longer had it: it clamps
/// old cursors silently.
const CLAMPED: i64 = 600_000_000;
/// How long saying goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How a connection ended that should not have.
pub(super) struct Lost {
    pub(super) why: anyhow::Error,
    /// Whether it brought any message.
    pub(super) heard: bool,
    /// Whether resuming from the same cursor would end the same way.
    pub(super) forget_cursor: bool,
}

/// A connection that could not be opened.
impl From<anyhow::Error> for Lost {
    fn from(why: anyhow::Error) -> Self {
        // a server that finds fault with the request finds it with the cursor, which alone changes
        let refused = why.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(tungstenite::Error::Http(answer)) if answer.status() == StatusCode::BAD_REQUEST)
        });
        Self { why, heard: false, forget_cursor: refused }
    }
}

/// Everything that outlives a connection.
pub(super) struct Follower {
    /// The endpoints, each with the cursor up to which its items were handed on.
    pub(super) starts: Vec<Start>,
    pub(super) settings: StreamSettings,
    pub(super) out: mpsc::Sender<Item>,
    pub(super) shutdown: CancellationToken,
    /// Whether anything was ever read: from then on, starting without a cursor leaves a gap.
    pub(super) connected_before: bool,
    /// When to speak of lost connections.
    pub(super) outage: Outage,
    /// Whether the first connection was told.
    told: bool,
    wanted: Wanted,
    revs: firehose::Revs,
    undecodable: u64,
}

impl Follower {
    pub(super) fn new(
        starts: Vec<Start>,
        wanted: Wanted,
        settings: StreamSettings,
        out: mpsc::Sender<Item>,
        shutdown: CancellationToken,
    ) -> Self {
        let revs = firehose::Revs::default();
        let outage = Outage::default();
        Self {
            starts,
            settings,
            out,
            shutdown,
            connected_before: false,
            outage,
            told: false,
            wanted,
            revs,
            undecodable: 0,
        }
    }

    /// The endpoint's name, for logs.
    pub(super) fn name(&self, index: usize) -> String {
        self.starts.get(index).map(|start| start.endpoint.to_string()).unwrap_or_default()
    }

    /// Lets the next connection to this endpoint begin with the present.
    pub(super) fn forget(&mut self, index: usize) {
        let jetstream = self.starts.get(index).is_some_and(|s| s.endpoint.dialect == Dialect::Jetstream);
        for (at, start) in self.starts.iter_mut().enumerate() {
            // the Jetstreams share their cursors
            if at == index || (jetstream && start.endpoint.dialect == Dialect::Jetstream) {
                start.cursor = None;
            }
        }
    }

    /// Where to resume at this endpoint.
    fn resume(&self, index: usize) -> Option<i64> {
        let start = self.starts.get(index)?;
        if start.endpoint.dialect == Dialect::Firehose {
            return start.cursor;
        }
        let jetstreams = self.starts.iter().filter(|start| start.endpoint.dialect == Dialect::Jetstream);
        let newest = jetstreams.filter_map(|start| start.cursor).max()?;
        let rewind = if start.cursor == Some(newest) { REWIND_SAME } else { REWIND_OTHER };
        Some(newest.saturating_sub(rewind).max(0))
    }

    fn arrived(&mut self, index: usize, cursor: i64) {
        if let Some(start) = self.starts.get_mut(index) {
            start.cursor = Some(cursor);
        }
    }

    /// Connects and listens; `None` when it is time to stop.
    pub(super) async fn session(&mut self, index: usize) -> Option<Lost> {
        let asked = self.resume(index);
        let socket = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            () = self.out.closed() => return None,
            socket = self.connect(index, asked) => match socket {
                Ok(socket) => socket,
                Err(why) => return Some(why.into()),
            },
        };
        if self.outage.works() || !std::mem::replace(&mut self.told, true) {
            tracing::info!(endpoint = %self.name(index), cursor = asked, "stream connected");
        }
        if asked.is_none() {
            if self.connected_before {
                self.gap(index).await?;
            }
            let dialect = self.starts.get(index)?.endpoint.dialect;
            if dialect == Dialect::Jetstream {
                // should it break before the first message, nothing from here on is to be missed
                self.arrived(index, now_us());
            }
        }
        self.connected_before = true;
        self.send(Item::Connected { endpoint: index }).await?;
        self.listen(index, socket, asked).await
    }

    async fn connect(&self, index: usize, cursor: Option<i64>) -> anyhow::Result<Socket> {
        let endpoint = &self.starts.get(index).context("an endpoint beyond the list")?.endpoint;
        let (url, hello) = match endpoint.dialect {
            Dialect::Jetstream => jetstream::request(&endpoint.url, &self.wanted, cursor)?,
            Dialect::Firehose => (firehose::request(&endpoint.url, cursor), None),
        };
        let mut request = url.as_str().into_client_request()?;
        let agent = HeaderValue::from_static(concat!("openmeet-gateway/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let bound = Some(self.settings.max_frame_bytes);
        let config = WebSocketConfig::default().max_message_size(bound).max_frame_size(bound);
        let opening = async {
            let (mut socket, _) = connect_async_with_config(request, Some(config), true).await?;
            if let Some(hello) = hello {
                socket.send(Message::text(hello)).await?;
            }
            anyhow::Ok(socket)
        };
        timeout(self.settings.connect_within, opening).await.context("no connection in time")?
    }

    async fn listen(&mut self, index: usize, mut socket: Socket, asked: Option<i64>) -> Option<Lost> {
        let mut heard = false;
        let lost = |why, heard| Some(Lost { why, heard, forget_cursor: false });
        let mut alive = Instant::now(); // last sign of life
        let mut spoke = alive; // last message
        let mut reported = alive; // last time that the taker learnt of a cursor
        let mut pinged = false;
        loop {
            let stall = if pinged { self.settings.stall_after } else { self.settings.stall_after / 2 };
            let wake = pin!(sleep_until((alive + stall).min(spoke + self.settings.quiet_after)));
            let message = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    // the server will notice anyway
                    let _ = timeout(CLOSE_WITHIN, socket.close(None)).await;
                    return None;
                }
                message = socket.next() => message,
                () = wake => {
                    let now = Instant::now();
                    if now >= spoke + self.settings.quiet_after {
                        return lost(anyhow!("no message for {:?}", self.settings.quiet_after), heard);
                    }
                    if now >= alive + self.settings.stall_after {
                        return lost(anyhow!("no sign of life for {:?}", self.settings.stall_after), heard);
                    }
                    pinged = true;
                    // a dead peer's full buffers must not hold us longer than its silence would
                    match timeout(self.settings.stall_after / 2, socket.send(Message::Ping(Bytes::new()))).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => return lost(error.into(), heard),
                        Err(_) => return lost(anyhow!("no ping could be sent"), heard),
                    }
                }
            };
            let message = match message {
                Some(Ok(message)) => message,
                // the same message would come again and again
                Some(Err(error @ tungstenite::Error::Capacity(_))) => {
                    return Some(Lost { why: error.into(), heard, forget_cursor: true });
                }
                Some(Err(error)) => return lost(error.into(), heard),
                None => return lost(anyhow!("the connection ended"), heard),
            };
            match message {
                Message::Text(_) | Message::Binary(_) => {
                    let reading = self.read(index, &message);
                    if let (false, Some(asked), Some(time)) = (heard, asked, reading.time_us)
                        && self.dialect(index) == Dialect::Jetstream
                        // nought asks for whatever there is
                        && asked > 0
                        && time.saturating_sub(asked) > CLAMPED
                    {
                        self.gap(index).await?;
                    }
                    // errors and garbage alone make no good connection
                    heard |= reading.cursor.is_some();
                    match reading.notice {
                        Some(Notice::Gap) => self.gap(index).await?,
                        Some(Notice::CursorRefused) => {
                            let why = anyhow!("the server does not know the cursor");
                            return Some(Lost { why, heard: false, forget_cursor: true });
                        }
                        Some(Notice::Closing(why)) => return lost(anyhow!(why), heard),
                        None => {}
                    }
                    if let Some(cursor) = reading.cursor {
                        if !reading.frames.is_empty() || reported.elapsed() >= self.settings.report_every {
                            self.hand_on(index, reading.frames, cursor).await?;
                            reported = Instant::now();
                        }
                        self.arrived(index, cursor);
                    }
                    // time spent waiting for the taker is not the server's silence
                    spoke = Instant::now();
                }
                Message::Close(frame) => {
                    let why =
                        frame.map_or_else(|| anyhow!("closed by the server"), |f| anyhow!("closed by the server: {f}"));
                    return lost(why, heard);
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            alive = Instant::now();
            pinged = false;
        }
    }

    fn dialect(&self, index: usize) -> Dialect {
        self.starts.get(index).map_or(Dialect::Firehose, |start| start.endpoint.dialect)
    }

    /// Reads one message; one that cannot be read is counted and passed over.
    fn read(&mut self, index: usize, message: &Message) -> Reading {
        let dialect = self.dialect(index);
        let reading = match (dialect, message) {
            (Dialect::Jetstream, Message::Text(text)) => jetstream::read(text, &self.wanted),
            (Dialect::Firehose, Message::Binary(bytes)) => firehose::read(bytes, &self.wanted, &mut self.revs),
            _ => Err(anyhow!("neither text nor bytes where the other was due")),
        };
        let reading = reading.unwrap_or_else(|error| {
            metrics::counter!("gateway_stream_undecodable_total").increment(1);
            self.undecodable = self.undecodable.saturating_add(1);
            // a server that has gone mad must not fill the disk with our complaints
            if self.undecodable.is_power_of_two() {
                let (endpoint, count) = (self.name(index), self.undecodable);
                tracing::warn!(%endpoint, count, error = %format!("{error:#}"), "undecodable message passed over");
            }
            Reading::of("undecodable")
        });
        metrics::counter!("gateway_stream_frames_total", "kind" => reading.kind).increment(1);
        if let Some(time) = reading.time_us {
            let lag = Duration::from_micros(u64::try_from(now_us().saturating_sub(time)).unwrap_or(0));
            metrics::gauge!("gateway_stream_lag_seconds", "dialect" => dialect.name()).set(lag.as_secs_f64());
        }
        reading
    }

    /// Hands on the frames, or the bare cursor where there are none; `None` when it is time to stop.
    async fn hand_on(&self, index: usize, frames: Vec<Frame>, cursor: i64) -> Option<()> {
        if frames.is_empty() {
            return self.send(Item::Passed { endpoint: index, cursor }).await;
        }
        for mut frame in frames {
            frame.endpoint = index;
            self.send(Item::Frame(frame)).await?;
        }
        Some(())
    }

    async fn gap(&self, index: usize) -> Option<()> {
        tracing::warn!(endpoint = %self.name(index), "messages may be missing from the stream before this point");
        metrics::counter!("gateway_stream_gaps_total").increment(1);
        self.send(Item::Gap { endpoint: index }).await
    }

    async fn send(&self, item: Item) -> Option<()> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            sent = self.out.send(item) => sent.ok(),
        }
    }
}
