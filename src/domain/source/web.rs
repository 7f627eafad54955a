//! What programs bring over the integration API, scrapers (`web`) and every other integration (`other`): items in the form
//! of `ExternalEventDto` and `ExternalRsvpDto`, kept as they came.
//!
//! They have no repository. The ledger keeps them on a [`Shelf`] of their source and tenant, so that no two tenants meet in
//! a record, and no URI of theirs can be one of the network's. An event is its site's: nobody's DID is put on it on a
//! program's word. An answer is that of the person whose DID it names.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD_NOCASE;
use entities::{
    location::{Link, Location},
    sets::{EventMode, EventStatus, EventVisibility, RsvpStatus, SourceType},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded::byte_serialize};

use super::{
    DESCRIPTION_LIMIT, Draft, EventDraft, Kind, LINKS_LIMIT, NAME_LIMIT, RSVP_BYTES, Reading, Refusal, RsvpDraft,
    lenient::{Reader, clean, degrees, web_address},
    link,
};
use crate::{domain::event::fold_search, infra::atproto::syntax::Cid};

/// Source types that are kept in this form.
pub const SOURCES: [SourceType; 2] = [SourceType::Web, SourceType::Other];

/// Sites that programs may name in the place of `other`. They have no shelf of their own: see [`on_shelf`].
pub const SITES: [&str; 4] = ["eventbrite", "facebook", "luma", "meetup"];

/// Bytes of an identifier. Each may become three in the URI, which indexes have to hold.
const ID_BYTES: usize = 700;
/// Characters of a place's name that are kept.
const PLACE_LIMIT: usize = 300;

const MODES: [(&str, EventMode); 3] =
    [("inperson", EventMode::InPerson), ("online", EventMode::Virtual), ("hybrid", EventMode::Hybrid)];
const STATUSES: [(&str, EventStatus); 4] = [
    ("draft", EventStatus::Draft),
    ("pending", EventStatus::Planned),
    ("published", EventStatus::Scheduled),
    ("cancelled", EventStatus::Cancelled),
];
const VISIBILITIES: [(&str, EventVisibility); 3] = [
    ("public", EventVisibility::Public),
    ("unlisted", EventVisibility::Unlisted),
    ("private", EventVisibility::Private),
];
/// The answers, as any program says them; those of the lexicon come first.
pub const ANSWERS: [(&str, RsvpStatus); 6] = [
    ("going", RsvpStatus::Confirmed),
    ("interested", RsvpStatus::Maybe),
    ("notgoing", RsvpStatus::Cancelled),
    ("confirmed", RsvpStatus::Confirmed),
    ("maybe", RsvpStatus::Maybe),
    ("cancelled", RsvpStatus::Cancelled),
];

/// Where the ledger keeps the records of one kind that one source brings to one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// One of [`SOURCES`].
    pub source: SourceType,
    /// Key of the tenant; whether there is one is for `s6_route` to say.
    pub tenant: i64,
    /// What the records are.
    pub kind: Kind,
}

impl Shelf {
    /// Reads what [`Self::collection`] writes, and nothing else.
    pub fn parse(collection: &str) -> Option<Self> {
        let (source, place) = collection.split_once("://")?;
        let (tenant, kind) = place.split_once('/')?;
        let source = SOURCES.into_iter().find(|known| known.as_str() == source)?;
        let kind = [Kind::Event, Kind::Rsvp].into_iter().find(|known| name(*known) == kind)?;
        let shelf = Self { source, tenant: tenant.parse().ok()?, kind };
        (shelf.collection() == collection).then_some(shelf)
    }

    /// What stands in the place of a collection's name: `web://1/event`. Collections of the network have no colons.
    pub fn collection(self) -> String {
        format!("{}://{}/{}", self.source.as_str(), self.tenant, name(self.kind))
    }

    /// The URI of a record: `web://1/event/ID`, with whatever is special in the identifier escaped.
    pub fn uri(self, id: &str) -> String {
        format!("{}/{}", self.collection(), byte_serialize(id.as_bytes()).collect::<String>())
    }

    /// The shelf of the events that answers on this one are for.
    fn events(self) -> Self {
        Self { kind: Kind::Event, ..self }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => "event",
        Kind::Rsvp => "rsvp",
    }
}

/// Whether a text may name a record: not blank, at most 700 bytes, and no control characters among them.
pub fn is_id(id: &str) -> bool {
    id.len() <= ID_BYTES && !id.trim().is_empty() && !id.chars().any(char::is_control)
}

/// What a record is called on its shelf, by the source type that a program names and its identifier there. Those of a site
/// begin with the site's name, so that no two sites mean the same.
pub fn on_shelf(source: &str, id: &str) -> String {
    if SITES.contains(&source) { format!("{source}:{id}") } else { id.to_owned() }
}

/// Puts fields in the place of those that are held. The parts of `source` and of its `metadata` are fields of their own;
/// everything else, a location too, is replaced as a whole.
pub(super) fn merge(record: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (name, value) in fields {
        match (name.as_str(), record.get_mut(&name), value) {
            ("source" | "metadata", Some(Value::Object(held)), Value::Object(given)) => merge(held, given),
            (_, _, value) => {
                record.insert(name, value);
            }
        }
    }
}

pub(super) fn read(shelf: Shelf, record: &str) -> Reading {
    let refuse = |code, why: String| Reading::of(Err(Refusal { code, why }), Vec::new());
    if shelf.kind == Kind::Rsvp && record.len() > RSVP_BYTES {
        return refuse("RSVP_TOO_LARGE", format!("an RSVP has at most {RSVP_BYTES} bytes, this one {}", record.len()));
    }
    let fields: Map<String, Value> = match serde_json::from_str(record) {
        Ok(fields) => fields,
        Err(error) => return refuse("RECORD_NOT_OBJECT", error.to_string()),
    };
    let mut reader = Reader::new(&fields);
    let draft = match shelf.kind {
        Kind::Event => event(&mut reader).map(|draft| Draft::Event(Arc::new(draft))),
        Kind::Rsvp => rsvp(shelf, &mut reader).map(Draft::Rsvp),
    };
    Reading::of(draft, reader.into_issues())
}

fn event(reader: &mut Reader<'_>) -> Result<EventDraft, Refusal> {
    let Some(name) = reader.text("name", NAME_LIMIT, "NAME_SHORTENED") else {
        return Err(Refusal { code: "EVENT_NAME_MISSING", why: "an event has a name".into() });
    };
    let source = reader.field("source");
    let page = source.and_then(|source| source.get("url")).and_then(Value::as_str).and_then(web_address);
    let (locations, point) = places(reader);
    Ok(EventDraft {
        name: name.split_whitespace().collect::<Vec<_>>().join(" "),
        description: reader.text("description", DESCRIPTION_LIMIT, "DESCRIPTION_MALFORMED"),
        starts_at: reader.instant("startDate", "STARTS_AT_MALFORMED"),
        ends_at: reader.instant("endDate", "ENDS_AT_MALFORMED"),
        time_zone: None,
        status: member(reader, "status", &STATUSES).unwrap_or(EventStatus::Scheduled),
        mode: member(reader, "type", &MODES).unwrap_or(EventMode::InPerson),
        visibility: member(reader, "visibility", &VISIBILITIES).unwrap_or(EventVisibility::Public),
        locations,
        links: links(source, page.as_ref()),
        page,
        point,
        created_at: None,
        search_text: String::new(),
    })
}

/// A member of a closed set; a dash in its name does not matter.
fn member<T: Copy>(reader: &mut Reader<'_>, field: &str, known: &[(&str, T)]) -> Option<T> {
    let text = reader.field(field)?.as_str().unwrap_or_default().replace('-', "");
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, member)| *member);
    if found.is_none() {
        reader.note("VALUE_UNKNOWN");
    }
    found
}

fn places(reader: &Reader<'_>) -> (Vec<Location>, Option<(f64, f64)>) {
    let Some(location) = reader.field("location") else { return (Vec::new(), None) };
    let text = |name| location.get(name).and_then(Value::as_str);
    let name = text("description").map(|text| clean(text).chars().take(PLACE_LIMIT).collect::<String>());
    let name = name.filter(|name| !name.is_empty());
    let point = degrees(location.get("lat"), 90.0).zip(degrees(location.get("lon"), 180.0));
    let mut locations = Vec::new();
    match (point, name) {
        (Some((latitude, longitude)), name) => locations.push(Location::Point { name, latitude, longitude }),
        (None, Some(name)) => locations.push(Location::Address {
            name: Some(name),
            street: None,
            locality: None,
            region: None,
            postal_code: None,
            country: None,
        }),
        (None, None) => {}
    }
    let online = text("url").and_then(web_address).map(|url| Location::Online { name: None, url });
    locations.extend(online);
    (locations, point)
}

/// The page, and what the source links to beside it.
fn links(source: Option<&Value>, page: Option<&String>) -> Vec<Link> {
    let listed = source.and_then(|source| source.pointer("/metadata/uris")).and_then(Value::as_array);
    let mut links: Vec<Link> = page.map(|url| Link { name: None, url: url.clone() }).into_iter().collect();
    for link in listed.into_iter().flatten().filter_map(link::read) {
        if let Some(held) = links.iter_mut().find(|held| held.url == link.url) {
            held.name = held.name.take().or(link.name);
        } else if links.len() < LINKS_LIMIT {
            links.push(link);
        }
    }
    links
}

fn rsvp(shelf: Shelf, reader: &mut Reader<'_>) -> Result<RsvpDraft, Refusal> {
    let source = reader.field("eventSourceType").and_then(Value::as_str).unwrap_or_default();
    let id = reader.field("eventSourceId").and_then(Value::as_str).map(|id| on_shelf(source, id));
    let Some(id) = id.filter(|id| is_id(id)) else {
        return Err(Refusal { code: "RSVP_SUBJECT_MISSING", why: "an RSVP names the event that it answers".into() });
    };
    let given = reader.field("status").and_then(Value::as_str).unwrap_or_default();
    let status = answer(given).ok_or_else(|| Refusal {
        code: "RSVP_STATUS_UNKNOWN",
        why: "the answer is none of going, interested, notgoing".into(),
    })?;
    let cid = reader.field("metadata").and_then(|metadata| metadata.get("eventCid")).and_then(Value::as_str);
    Ok(RsvpDraft {
        event_uri: shelf.events().uri(&id),
        event_cid: cid.filter(|cid| Cid::parse(cid).is_ok()).map(str::to_owned),
        status,
        created_at: reader.instant("timestamp", "CREATED_AT_MALFORMED"),
    })
}

/// The answer that a word stands for, with or without what the lexicon puts before it.
pub fn answer(text: &str) -> Option<RsvpStatus> {
    let token = text.rsplit('#').next().unwrap_or(text);
    ANSWERS.iter().find(|(name, _)| *name == token).map(|(_, status)| *status)
}

/// Whose events these are, for people: the page's host, or the source where there is no page.
pub fn site(source: SourceType, page: Option<&str>) -> String {
    let host = page.and_then(|page| Url::parse(page).ok()).and_then(|url| url.host_str().map(str::to_owned));
    let host = host.map(|host| host.strip_prefix("www.").map(str::to_owned).unwrap_or(host));
    host.unwrap_or_else(|| source.as_str().to_owned())
}

/// What two records of one event have in common, though their identifiers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// Page and start: a page may list many events, and every date of a series.
    pub page: Option<String>,
    /// Site, name, start and place; none where one of them is missing.
    pub fingerprint: Option<String>,
}

impl Likeness {
    /// That of an event on a shelf; those of other shelves never equal it.
    pub fn of(shelf: Shelf, draft: &EventDraft) -> Self {
        let start = draft.starts_at.as_ref().map(DateTime::<Utc>::to_rfc3339).unwrap_or_default();
        let page = draft.page.as_deref().map(|page| {
            // What stands behind the hash is a place on the page.
            hash(shelf, &[page.split('#').next().unwrap_or(page), &start])
        });
        let site = site(shelf.source, draft.page.as_deref());
        let fingerprint = place(draft).filter(|_| !start.is_empty()).map(|place| {
            let name = fold_search(&draft.name);
            hash(shelf, &[&site, &name, &start, &place])
        });
        Self { page, fingerprint }
    }
}

/// Where an event takes place, to about a hundred metres, or in words, or online.
fn place(draft: &EventDraft) -> Option<String> {
    if let Some((latitude, longitude)) = draft.point {
        return Some(format!("{latitude:.3} {longitude:.3}"));
    }
    draft.locations.iter().find_map(|location| match location {
        Location::Address { name, .. } => name.as_deref().map(fold_search).filter(|name| !name.is_empty()),
        Location::Online { url, .. } => Some(url.clone()),
        Location::Point { .. } | Location::Named { .. } => None,
    })
}

fn hash(shelf: Shelf, parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    digest.update(shelf.collection());
    for part in parts {
        digest.update([0]);
        digest.update(part);
    }
    BASE32_NOPAD_NOCASE.encode(&digest.finalize()).to_ascii_lowercase()
}

/// The events of the network that a record says it is a copy of: AT-URIs among its links, and the DID that it names as
/// their author.
pub fn copied(record: &str) -> Option<(String, Vec<String>)> {
    let record: Value = serde_json::from_str(record).ok()?;
    let source = record.get("source")?;
    let did = source.pointer("/metadata/did")?.as_str()?.to_owned();
    let links = source.pointer("/metadata/uris").and_then(Value::as_array).into_iter().flatten();
    let links = links.chain(source.get("url")).filter_map(link::address);
    Some((did, links.filter(|link| link.starts_with("at://")).map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shelf(kind: Kind) -> Shelf {
        Shelf { source: SourceType::Web, tenant: 3, kind }
    }

    fn draft(record: &Value) -> EventDraft {
        match read(shelf(Kind::Event), &record.to_string()).draft {
            Ok(Draft::Event(draft)) => Arc::unwrap_or_clone(draft),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn other_identifiers_have_other_uris(one in ".{1,40}", other in ".{1,40}") {
            prop_assert_eq!(shelf(Kind::Event).uri(&one) == shelf(Kind::Event).uri(&other), one == other);
            let (collection, rest) = shelf(Kind::Event).uri(&one).rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            prop_assert_eq!(Shelf::parse(&collection), Some(shelf(Kind::Event)));
            prop_assert!(rest.is_ascii() && !rest.contains('/'));
        }

        #[test]
        fn only_shelves_are_read_as_such(text in "(web|other|at)://[0-9+-]{1,4}/(event|rsvp|x)") {
            if let Some(shelf) = Shelf::parse(&text) {
                prop_assert_eq!(shelf.collection(), text);
            }
        }
    }

    #[test]
    fn an_update_leaves_what_it_leaves_out() {
        let mut record = serde_json::json!({ "name": "a", "description": "b", "location": { "lat": 1, "lon": 2 },
            "source": { "url": "https://a.example/", "metadata": { "uris": ["https://b.example/"], "cid": "x" } } });
        let fields = serde_json::json!({ "name": "c", "location": { "description": "d" }, "source": { "metadata": { "cid": "y" } } });
        let (Value::Object(held), Value::Object(fields)) = (&mut record, fields) else { panic!() };
        merge(held, fields);
        let expected = serde_json::json!({ "name": "c", "description": "b", "location": { "description": "d" },
            "source": { "url": "https://a.example/", "metadata": { "uris": ["https://b.example/"], "cid": "y" } } });
        assert_eq!(record, expected);
    }

    #[test]
    fn a_page_with_many_events_names_none_of_them() {
        let event = |name: &str, start: &str, url: &str| {
            let record = serde_json::json!({ "name": name, "startDate": start, "location": { "description": "The Hall" },
                "source": { "url": url } });
            Likeness::of(shelf(Kind::Event), &draft(&record))
        };
        let one = event("One", "2027-01-01T18:00:00Z", "https://www.example.com/list");
        assert_eq!(one.page, event("Two", "2027-01-01T19:00:00+01:00", "https://www.example.com/list#two").page);
        assert_ne!(one.page, event("One", "2027-01-08T18:00:00Z", "https://www.example.com/list").page);
        let again = event("  one!", "2027-01-01T18:00:00Z", "https://example.com/other");
        assert_eq!((one.page == again.page, one.fingerprint == again.fingerprint), (false, true));
        assert_ne!(one.fingerprint, event("One", "2027-01-01T18:00:00Z", "https://example.org/list").fingerprint);
    }
}
