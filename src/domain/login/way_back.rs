//! Where a person goes after signing in: a page of ours, or of an origin that is configured; nowhere else.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Error, Result};

/// Longest place.
const MAX: usize = 2_048;

/// A place that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WayBack(String);

impl WayBack {
    /// No place in particular.
    pub fn none() -> Self {
        Self(String::new())
    }

    /// A path of ours with all that follows, or a URL at one of these origins; empty for no place.
    ///
    /// Fails with `LOGIN_RETURN` for everything else.
    pub fn check(text: &str, origins: &[String]) -> Result<Self> {
        let refused = || Error::invalid("return_to", "LOGIN_RETURN", "nobody is sent there");
        if text.is_empty() {
            return Ok(Self::none());
        }
        // Browsers drop some of these, and take a backslash for a slash.
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if text.len() > MAX || !is_plain {
            return Err(refused());
        }
        // Any base will do: what stays at it is a path of ours.
        let base = Url::parse("https://gateway.invalid").map_err(Error::bug)?;
        let url = base.join(text).map_err(|_| refused())?;
        let is_ours = text.starts_with('/') && !text.starts_with("//") && url.origin() == base.origin();
        let is_configured = || {
            let is_bare = url.username().is_empty() && url.password().is_none();
            text.starts_with("http") && is_bare && origins.contains(&url.origin().ascii_serialization())
        };
        if is_ours || is_configured() { Ok(Self(text.to_owned())) } else { Err(refused()) }
    }

    /// The text; empty for no place.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a place.
    pub fn is_somewhere(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> bool {
        WayBack::check(text, &["https://openmeet.net".to_owned()]).is_ok()
    }

    #[test]
    fn only_our_pages_and_configured_origins() {
        for good in ["", "/", "/events/1?a=b#c", "/@x:y", "https://openmeet.net", "https://openmeet.net/a?b=//c"] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "http://openmeet.net",
            "https://openmeet.net.evil.example",
            "https://openmeet.net@evil.example",
            "https://openmeet.net:444/",
            "https://me@openmeet.net",
            "javascript:alert(1)",
            "data:text/html,x",
            "events",
            "?a",
            "#a",
            " /",
            "/a\nb",
            "/\t/evil.example",
            "https:openmeet.net\\@evil.example",
            "https:///evil.example",
            "///evil.example",
            "/é",
            "htt\tps://openmeet.net",
        ] {
            assert!(!check(bad), "{bad:?}");
        }
        assert!(!check(&format!("/{}", "a".repeat(MAX))));
    }

    proptest! {
        #[test]
        fn what_is_let_through_stays(text in r"[/\\.:@?#a-z%]{0,24}") {
            let ours = Url::parse("https://gateway.example").unwrap();
            if check(&text) && !text.is_empty() {
                let there = ours.join(&text).unwrap().origin().ascii_serialization();
                prop_assert!(["https://gateway.example", "https://openmeet.net"].contains(&there.as_str()), "{}", there);
            }
        }
    }
}
