//! Stand-ins for the network's DNS and hosts, on loopback, for tests.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

use super::{Outbound, OutboundSettings, Rules};

/// What the fake DNS says to one question.
pub(crate) enum Said {
    /// These addresses (IPv6 ones to AAAA, IPv4 ones to A), with a lifetime of zero.
    Addresses(Vec<IpAddr>),
    /// These TXT records.
    Texts(Vec<String>),
    /// A CNAME; the resolver has to ask for that name.
    Alias(&'static str),
    /// The name does not exist.
    Nothing,
    /// SERVFAIL.
    Failure,
}

/// A DNS server over UDP.
pub(crate) struct FakeDns {
    pub(crate) at: SocketAddr,
    task: JoinHandle<()>,
}

impl FakeDns {
    /// Answers with what `say` returns for a name, in lower case, and a type (1 A, 16 TXT, 28 AAAA).
    pub(crate) async fn start(say: impl Fn(&str, u16) -> Said + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answer = reply(&buffer[..length], &say);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { at, task }
    }
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reply(question: &[u8], say: &impl Fn(&str, u16) -> Said) -> Vec<u8> {
    let (mut labels, mut end) = (Vec::new(), 12);
    while question[end] != 0 {
        let length = usize::from(question[end]);
        labels.push(String::from_utf8_lossy(&question[end + 1..=end + length]).to_lowercase());
        end += length + 1;
    }
    let kind = u16::from_be_bytes([question[end + 1], question[end + 2]]);
    end += 5;
    let mut told = kind;
    let (code, records): (u8, Vec<Vec<u8>>) = match say(&labels.join("."), kind) {
        Said::Alias(name) => {
            told = 5;
            let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
            (0, vec![name.split('.').chain([""]).flat_map(label).collect()])
        }
        Said::Addresses(all) => {
            let bytes = |ip: &IpAddr| match (ip, kind) {
                (IpAddr::V4(ip), 1) => Some(ip.octets().to_vec()),
                (IpAddr::V6(ip), 28) => Some(ip.octets().to_vec()),
                _ => None,
            };
            (0, all.iter().filter_map(bytes).collect())
        }
        Said::Texts(texts) if kind == 16 => {
            (0, texts.iter().map(|t| [&[u8::try_from(t.len()).unwrap()], t.as_bytes()].concat()).collect())
        }
        Said::Texts(_) => (0, Vec::new()),
        Said::Nothing => (3, Vec::new()),
        Said::Failure => (2, Vec::new()),
    };
    let mut answer = question[..12].to_vec();
    answer[2] = 0x84 | (question[2] & 1);
    answer[3] = 0x80 | code;
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend_from_slice(&question[12..end]);
    for data in records {
        answer.extend_from_slice(&[0xc0, 0x0c]);
        answer.extend_from_slice(&told.to_be_bytes());
        answer.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend_from_slice(&data);
    }
    answer
}

/// What a fake host was asked.
pub(crate) struct Heard {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// First line and headers, in lower case, each line ended by CRLF.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    /// The value of a header, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    async fn from(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut heard = Self { method, path, head: head.to_lowercase(), body: String::new() };
        let length = heard.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        heard.body = String::from_utf8(body).unwrap();
        Some(heard)
    }
}

/// An HTTP host that answers every connection once.
pub(crate) struct FakeHost {
    pub(crate) at: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FakeHost {
    /// Answers with the whole response that `respond` returns for a path with its query.
    pub(crate) async fn start(at: &str, respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::hearing(at, move |heard| respond(&heard.path)).await
    }

    /// Answers with the whole response that `respond` returns for a request.
    pub(crate) async fn hearing(at: &str, respond: impl Fn(&Heard) -> String + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind(at).await.unwrap(), respond)
    }

    fn on(listener: TcpListener, respond: impl Fn(&Heard) -> String + Send + Sync + 'static) -> Self {
        let at = listener.local_addr().unwrap();
        let (connections, respond) = (Arc::new(AtomicUsize::new(0)), Arc::new(respond));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let respond = Arc::clone(&respond);
                tokio::spawn(async move {
                    let Some(heard) = Heard::from(&mut stream).await else { return };
                    stream.write_all(respond(&heard).as_bytes()).await.ok();
                    stream.shutdown().await.ok();
                });
            }
        });
        Self { at, connections, task }
    }

    /// Two hosts with one port: at 127.0.0.1, and at 127.0.0.2 one that answers `private`. `respond` also gets the port.
    pub(super) async fn pair(respond: impl Fn(u16, &str) -> String + Send + Sync + 'static) -> (Self, Self) {
        Self::pair_hearing(move |port, heard| respond(port, &heard.path)).await
    }

    /// The same, with the whole request.
    pub(super) async fn pair_hearing(respond: impl Fn(u16, &Heard) -> String + Send + Sync + 'static) -> (Self, Self) {
        loop {
            let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = first.local_addr().unwrap().port();
            if let Ok(second) = TcpListener::bind(("127.0.0.2", port)).await {
                let private = Self::on(second, |_| response(200, "", "private"));
                return (Self::on(first, move |heard| respond(port, heard)), private);
            }
        }
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A response with a body and further headers (each line ends with CRLF).
pub(crate) fn response(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// A JSON response.
pub(crate) fn json(status: u16, body: &str) -> String {
    response(status, "content-type: application/json\r\n", body)
}

/// A client for a local network whose names `dns` knows.
pub(crate) fn local(dns: &FakeDns) -> Outbound {
    Outbound::new(settings(dns, true)).unwrap()
}

/// A client to which 127.0.0.1 is the public internet and everything else is private.
pub(super) fn guarded(dns: &FakeDns) -> Outbound {
    let rules = Rules { relaxed: true, admits: |ip| ip == IpAddr::from([127, 0, 0, 1]) };
    Outbound::with_rules(&settings(dns, false), rules).unwrap()
}

pub(crate) fn settings(dns: &FakeDns, allow_private: bool) -> OutboundSettings {
    let timeout = Duration::from_secs(5);
    OutboundSettings { allow_private, dns_server: Some(dns.at), timeout, max_body_bytes: 10_000, pace: None }
}
