//! Negotiation of the media type.

use axum::http::{HeaderMap, HeaderValue, header};

/// Media types of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/graphql-response+json`: the status tells whether the request was executed.
    Response,
    /// `application/json`: well-formed requests are answered with 200.
    Json,
    /// `text/event-stream`: each result is an event.
    Events,
}

impl Media {
    /// Value of `Content-Type`.
    pub(super) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Response => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
            Self::Events => "text/event-stream",
        })
    }
}

/// The type that the caller likes best. JSON where it doesn't say; `None` where it accepts nothing that we have.
///
/// Of types that it likes alike, the one named more precisely wins, then the one named first. Wildcards never mean an
/// event stream.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Media> {
    let values: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<Range> = values.iter().flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
    if ranges.is_empty() {
        // Absent or empty says nothing; a value that cannot be read asks for nothing that we have.
        return values.iter().all(|value| value.trim().is_empty()).then_some(Media::Json);
    }
    let candidates = [
        (Media::Json, ["application/json", "application/*", "*/*"]),
        (Media::Response, ["application/graphql-response+json", "application/*", "*/*"]),
        (Media::Events, ["text/event-stream", "", ""]),
    ];
    let rank = |names: [&str; 3]| {
        names.iter().enumerate().find_map(|(vagueness, name)| {
            let (place, range) = ranges.iter().enumerate().find(|(_, range)| range.name.eq_ignore_ascii_case(name))?;
            Some((range.quality, 2 - vagueness, usize::MAX - place))
        })
    };
    let ranked = candidates.into_iter().filter_map(|(media, names)| Some((rank(names)?, media)));
    // JSON comes first and is replaced only by something better, not by something equal.
    let best = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    (best.0.0 > 0).then_some(best.1)
}

struct Range<'a> {
    name: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| name.contains('/'))?;
        let mut quality = 1000;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value)?,
                "charset" if !value.eq_ignore_ascii_case("utf-8") => return None,
                _ => {}
            }
        }
        Some(Self { name, quality })
    }
}

/// `0`, `0.5`, `1.000`: at most three digits after the point.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_type_wins() {
        for (accept, media) in [
            ("", Some(Media::Json)),
            ("*/*", Some(Media::Json)),
            ("application/*", Some(Media::Json)),
            ("application/json", Some(Media::Json)),
            ("Application/JSON; charset=UTF-8", Some(Media::Json)),
            ("application/graphql-response+json", Some(Media::Response)),
            ("application/graphql-response+json, application/json;q=0.9", Some(Media::Response)),
            ("application/json;q=0.9, application/graphql-response+json", Some(Media::Response)),
            ("application/json, application/graphql-response+json", Some(Media::Json)),
            ("application/graphql-response+json, application/json", Some(Media::Response)),
            ("application/graphql-response+json;q=0.2, */*;q=0.5", Some(Media::Json)),
            ("application/graphql-response+json, */*", Some(Media::Response)),
            ("application/json;q=0, */*", Some(Media::Response)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(Media::Json)),
            ("text/event-stream", Some(Media::Events)),
            ("text/event-stream, application/json;q=0.5", Some(Media::Events)),
            ("application/json, text/event-stream", Some(Media::Json)),
            ("text/*", None),
            ("text/html", None),
            ("application/json;q=0", None),
            ("*/*;q=0", None),
            ("application/json; charset=latin1", None),
            ("application/json;q=2", None),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers), media, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Some(Media::Json));
    }
}
