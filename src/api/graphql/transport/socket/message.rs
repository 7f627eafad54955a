//! Messages of the graphql-transport-ws protocol.

use async_graphql::ServerError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::graphql::{guard::ECHO, transport::frame::Frame};

/// What a client says.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// The first message, perhaps with credentials.
    Init(Option<Map<String, Value>>),
    /// Sign of life; the payload is sent back.
    Ping(Option<Map<String, Value>>),
    /// Answer to ours.
    Pong,
    /// Start an operation.
    Subscribe {
        /// Chosen by the client, unique among its running operations.
        id: String,
        /// Parameters of the operation, not yet checked.
        payload: Map<String, Value>,
    },
    /// Stop an operation.
    Complete {
        /// Which.
        id: String,
    },
}

impl Heard {
    /// Reads a message; the error is the reason for closing with 4400.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let Ok(Value::Object(mut message)) = serde_json::from_str(text) else {
            return Err("message is not a JSON object");
        };
        let payload = |message: &mut Map<String, Value>| match message.remove("payload") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(payload)) => Ok(Some(payload)),
            Some(_) => Err("payload is not an object"),
        };
        let id = |message: &mut Map<String, Value>| match message.remove("id") {
            Some(Value::String(id)) if !id.is_empty() && id.len() <= ECHO => Ok(id),
            _ => Err("id is not a string of 1 to 100 bytes"),
        };
        match message.remove("type") {
            Some(Value::String(kind)) => match kind.as_str() {
                "connection_init" => Ok(Self::Init(payload(&mut message)?)),
                "ping" => Ok(Self::Ping(payload(&mut message)?)),
                "pong" => payload(&mut message).map(|_| Self::Pong),
                "subscribe" => {
                    let id = id(&mut message)?;
                    let payload = payload(&mut message)?.ok_or("subscribe needs a payload")?;
                    Ok(Self::Subscribe { id, payload })
                }
                "complete" => Ok(Self::Complete { id: id(&mut message)? }),
                _ => Err("type of message is unknown"),
            },
            _ => Err("message has no type"),
        }
    }
}

/// What we say.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said<'a> {
    /// The client may go on.
    ConnectionAck,
    /// Answer to a ping.
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Map<String, Value>>,
    },
    /// The operation did not start.
    Error { id: &'a str, payload: &'a [ServerError] },
    /// The operation ended.
    Complete { id: &'a str },
}

impl Said<'_> {
    /// The message as text.
    pub(super) fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// What the operation of this id tells: a result, or, where it was refused before it ran, why.
pub(super) fn told(id: &str, frame: &Frame, is_refusal: bool) -> String {
    match frame.refusal().filter(|_| is_refusal) {
        Some(errors) => wrap("error", id, errors),
        None => wrap("next", id, frame.payload()),
    }
}

/// A message around JSON that is written already. The payload is copied once: what goes to a socket is in one piece.
fn wrap(kind: &str, id: &str, payload: &str) -> String {
    // Text is never anything that JSON cannot hold.
    let id = serde_json::to_string(id).unwrap_or_default();
    let mut text = String::with_capacity(40 + id.len() + payload.len());
    for part in [r#"{"type":""#, kind, r#"","id":"#, &id, r#","payload":"#, payload, "}"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_strictly() {
        let empty = Map::new;
        for (text, heard) in [
            (r#"{"type":"connection_init"}"#, Heard::Init(None)),
            (r#"{"type":"connection_init","payload":{}}"#, Heard::Init(Some(empty()))),
            (r#"{"type":"ping","payload":null}"#, Heard::Ping(None)),
            (r#"{"type":"pong","more":1}"#, Heard::Pong),
            (r#"{"id":"1","type":"complete"}"#, Heard::Complete { id: "1".into() }),
            (r#"{"id":"1","type":"subscribe","payload":{}}"#, Heard::Subscribe { id: "1".into(), payload: empty() }),
        ] {
            assert_eq!(Heard::parse(text), Ok(heard), "{text}");
        }
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"ping","payload":[]}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"complete","id":7}"#,
            r#"{"type":"complete","id":""}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":"{}"}"#,
            r#"{"type":"subscribe","payload":{}}"#,
        ] {
            assert!(Heard::parse(text).is_err(), "{text}");
        }
        let told = wrap("next", "a\"\u{7}", r#"{"data":null}"#);
        let read: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(read, serde_json::json!({"type": "next", "id": "a\"\u{7}", "payload": {"data": null}}));
        let long = format!(r#"{{"type":"complete","id":"{}"}}"#, "x".repeat(101));
        assert!(Heard::parse(&long).is_err());
    }
}
