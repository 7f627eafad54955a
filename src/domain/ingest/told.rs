//! What a span is told of each message, where a collector records it: so that one record can be found among those that share
//! its batch. Where nothing is recorded no message is looked at.

use super::{line::Line, pipeline::Outcome};
use crate::{
    domain::source::Source,
    error::Result,
    telemetry::{self, Facts},
};

/// Bytes of a fact; what is longer is cut, since anybody may have written it.
const LONGEST: usize = 512;

/// The messages that the current span hands on.
pub fn handed_on<'a>(bodies: impl Iterator<Item = &'a str>) {
    telemetry::tell("message", || bodies.map(facts).collect());
}

/// The messages that the current span took through the pipeline, with what became of each.
pub(super) fn outcomes(batch: &[String], outcomes: &[Result<Outcome>]) {
    telemetry::tell("message", || {
        let told = |(body, outcome): (&String, &Result<Outcome>)| {
            let mut facts = facts(body);
            match outcome {
                Ok(Outcome::Applied { .. }) => facts.push(("outcome", "applied".to_owned())),
                Ok(Outcome::Unchanged) => facts.push(("outcome", "unchanged".to_owned())),
                Ok(Outcome::Parked(parked)) => {
                    facts.push(("outcome", "parked".to_owned()));
                    facts.push(("code", parked.code.to_owned()));
                }
                Err(_) => facts.push(("outcome", "refused".to_owned())),
            }
            facts
        };
        batch.iter().zip(outcomes).map(told).collect()
    });
}

/// Whose record it is, and which version. Of what is no line there is nothing to tell.
fn facts(body: &str) -> Facts {
    let Ok(line) = serde_json::from_str::<Line<'_>>(body) else { return Facts::new() };
    let did = &line.did;
    let record = |collection: &str, rkey: &str| format!("at://{did}/{collection}/{rkey}");
    let (uri, rev) = match (&line.commit, &line.claim, &line.resync) {
        (Some(commit), ..) => (Some(record(&commit.collection, &commit.rkey)), Some(&commit.rev)),
        (_, Some(claim), _) => {
            let uri = match Source::of_collection(&claim.collection) {
                Some(Source::Web(shelf)) => shelf.uri(&claim.rkey),
                _ => record(&claim.collection, &claim.rkey),
            };
            (Some(uri), claim.rev.as_ref())
        }
        (.., Some(resync)) => {
            let path = resync.collection.as_ref().zip(resync.rkey.as_ref());
            (path.map(|(collection, rkey)| record(collection, rkey)), resync.rev.as_ref())
        }
        _ => (None, None),
    };
    let facts = [("did", Some(did.to_string())), ("uri", uri), ("rev", rev.map(ToString::to_string))];
    let known = facts.into_iter().filter_map(|(name, fact)| Some((name, fact?)));
    known.map(|(name, fact)| (name, cut(fact))).collect()
}

fn cut(mut fact: String) -> String {
    fact.truncate(fact.floor_char_boundary(LONGEST));
    fact
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> Vec<(&'static str, String)> {
        facts(body)
    }

    #[test]
    fn each_kind_of_line_says_whom_and_what_it_is_about() {
        let (did, rev) = (("did", "did:plc:a".to_owned()), ("rev", "3l".to_owned()));
        let uri = |uri: &str| ("uri", uri.to_owned());
        let commit = r#"{"did":"did:plc:a","kind":"commit",
            "commit":{"rev":"3l","operation":"delete","collection":"x.y.z","rkey":"k"}}"#;
        assert_eq!(told(commit), [did.clone(), uri("at://did:plc:a/x.y.z/k"), rev.clone()]);
        let claim = r#"{"did":"web://1","kind":"claim","claim":{"operation":"delete","collection":"web://1/event","rkey":"a b"}}"#;
        assert_eq!(told(claim), [("did", "web://1".to_owned()), uri("web://1/event/a+b")]);
        let resync = r#"{"did":"did:plc:a","kind":"resync","resync":{"rev":"3l"}}"#;
        assert_eq!(told(resync), [did.clone(), rev]);
        assert_eq!(told(r#"{"did":"did:plc:a","kind":"identity"}"#), [did]);
        assert_eq!(told("nonsense"), []);
        let long = format!(r#"{{"did":"{}","kind":"identity"}}"#, "é".repeat(LONGEST));
        assert_eq!(told(&long)[0].1.len(), LONGEST);
    }
}
