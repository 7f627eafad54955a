//! What may be asked for at all: the rules for URLs and the rule for addresses. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The rules of one client.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Whether `http`, other ports than 443, addresses as hosts and names of the local network are allowed.
    pub(super) relaxed: bool,
    /// Which addresses may be connected to.
    pub(super) admits: fn(IpAddr) -> bool,
}

/// Top-level names that are nobody's on the public network.
const RESERVED: [&str; 9] = ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"];

impl Rules {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { relaxed: allow_private, admits: if allow_private { |_| true } else { is_public } }
    }

    /// Checks everything about a URL that needs no look-up. The `url` crate has already turned every spelling of an
    /// address (octal, hexadecimal, one integer, full-width digits, percent-encoding) into an address.
    pub(super) fn check(&self, url: &Url) -> Result<(), &'static str> {
        match url.scheme() {
            "https" => {}
            "http" if self.relaxed => {}
            _ => return Err("only https may be read"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL may not carry credentials");
        }
        if !self.relaxed && url.port_or_known_default() != Some(443) {
            return Err("only port 443 may be read");
        }
        match url.host() {
            None => Err("a URL needs a host"),
            Some(Host::Ipv4(ip)) => self.check_literal(ip.into()),
            Some(Host::Ipv6(ip)) => self.check_literal(ip.into()),
            Some(Host::Domain(name)) => self.check_name(name.strip_suffix('.').unwrap_or(name)),
        }
    }

    fn check_literal(&self, ip: IpAddr) -> Result<(), &'static str> {
        if self.relaxed && (self.admits)(ip) { Ok(()) } else { Err("an address may not stand for a host") }
    }

    fn check_name(&self, name: &str) -> Result<(), &'static str> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err("the host is not a name");
        }
        // `url` parses these as addresses; the connector would too, without asking the resolver that checks.
        if name.parse::<IpAddr>().is_ok() {
            return Err("an address may not stand for a host");
        }
        if self.relaxed {
            return Ok(());
        }
        match name.rsplit_once('.') {
            None => Err("the host is a name of the local network"),
            Some((_, top)) if RESERVED.iter().any(|reserved| top.eq_ignore_ascii_case(reserved)) => {
                Err("the host is under a reserved name")
            }
            Some(_) => Ok(()),
        }
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("relaxed", &self.relaxed).finish_non_exhaustive()
    }
}

/// Whether an address belongs to the public internet, after the special-purpose registries of IANA.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let refused = matches!(
        ip.octets(),
        [0 | 10 | 127 | 224.., ..]      // this network, private, loopback, multicast, reserved and broadcast
            | [100, 64..=127, ..]       // shared address space of carriers
            | [169, 254, ..]            // link-local, and the metadata of clouds
            | [172, 16..=31, ..]        // private
            | [192, 0, 0 | 2, _]        // protocol assignments, documentation
            | [192, 88, 99, _]          // 6to4 relays
            | [192, 168, ..]            // private
            | [198, 18 | 19, ..]        // benchmarks
            | [198, 51, 100, _]         // documentation
            | [203, 0, 113, _] // documentation
    );
    !refused
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // A network without IPv4 reaches IPv4 hosts through this prefix, so the address inside decides.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        // Protocol assignments with Teredo and benchmarks, documentation, 6to4, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Nothing else outside 2000::/3 is public: loopback, mapped IPv4, unique local, link-local, multicast and so on.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}
