//! Asks a running gateway whether it is ready: the health check of a container that holds nothing but the program.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use gateway::error::{Error, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than the gateway waits for what it needs, shorter than whoever runs the check waits for this.
const PATIENCE: Duration = Duration::from_secs(4);
/// Far more than the answer has.
const LONGEST: u64 = 16 << 10;

/// Whether the gateway of this machine that listens there is ready.
///
/// Errors: [`Error::Unavailable`] when it is not, or does not answer.
pub(super) async fn ask(listen: SocketAddr) -> Result<()> {
    let address = reachable(listen);
    let unavailable = |source| Error::Unavailable { service: "gateway", source };
    let answer = match tokio::time::timeout(PATIENCE, get(address)).await {
        Ok(answer) => answer.map_err(|error| unavailable(anyhow::Error::new(error).context(address)))?,
        Err(_) => return Err(unavailable(anyhow::anyhow!("{address}: no answer within {} s", PATIENCE.as_secs()))),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_ready = head.split(' ').nth(1) == Some("200");
    if is_ready { Ok(()) } else { Err(unavailable(anyhow::anyhow!("{address}: not ready: {body}"))) }
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    socket.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Who listens on every address is found on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
