//! `ExternalEventDto` and `ExternalRsvpDto`: what an item is about, and what it says, from the form that OpenMeet's processors
//! send.

use chrono::{DateTime, Utc};
use entities::sets::SourceType;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    Kind,
    fields::Fields,
    lexicon,
    origin::{Origin, account},
};
use crate::{
    domain::{
        key::ServiceKey,
        source::{
            Source, bluesky, only_answer,
            web::{self, Shelf},
        },
    },
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, Cid, Did, Nsid, RecordKey, is_storable, is_tid, tid_of},
};

/// An item whose form is right.
pub(super) struct Item {
    pub(super) address: Address,
    /// What whoever takes it away calls it: the AT-URI of a record of the network, else the source's identifier.
    pub(super) id: String,
    /// The URI of the event that an answer is for.
    pub(super) subject: Option<String>,
    pub(super) version: Version,
    pub(super) content: Content,
}

/// Where the ledger keeps a record.
pub(super) struct Address {
    pub(super) source: Source,
    pub(super) uri: String,
    /// The account, or the name of the source for events of none.
    pub(super) author: String,
    pub(super) collection: String,
    pub(super) rkey: String,
}

impl Address {
    pub(super) fn of_network(kind: Kind, uri: &AtUri) -> Self {
        Self {
            source: Source::Bluesky(kind),
            uri: uri.to_string(),
            author: uri.did.to_string(),
            collection: uri.collection.to_string(),
            rkey: uri.rkey.to_string(),
        }
    }

    pub(super) fn on(shelf: Shelf, author: &str, id: String) -> Self {
        Self {
            source: Source::Web(shelf),
            uri: shelf.uri(&id),
            author: author.to_owned(),
            collection: shelf.collection(),
            rkey: id,
        }
    }
}

/// Which version of the record it is, as far as that is said.
pub(super) struct Version {
    /// Revision of the repository, or of the source in the same form.
    pub(super) rev: Option<String>,
    /// When the stream, or the source, saw it.
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) cid: Option<String>,
}

pub(super) enum Content {
    /// The record itself.
    Verbatim(Box<RawValue>),
    /// Fields of the record; those that are absent stay as they are.
    Fields(Map<String, Value>),
}

/// Reads an item. `null` counts as absent, and fields that nobody here knows are passed over. What it says of its version must
/// not lie after `latest`: nothing could be said of it later, not even by its repository.
pub(super) fn read(
    kind: Kind,
    key: &ServiceKey,
    text: &str,
    (max_bytes, latest): (usize, DateTime<Utc>),
) -> Result<Item> {
    if text.len() > max_bytes {
        return Err(Error::invalid("item", "RECORD_TOO_LARGE", format!("it is longer than {max_bytes} bytes")));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| Error::invalid("item", "ITEM_NOT_JSON", error.to_string()))?;
    let fields = value.as_object().ok_or_else(|| Error::invalid("item", "ITEM_NOT_OBJECT", "expected an object"))?;
    let item = Fields { fields, path: String::new() };
    let (item, metadata) = match kind {
        Kind::Event => (event(key, &item, text)?, "source.metadata"),
        Kind::Rsvp => (rsvp(key, &item)?, "metadata"),
    };
    let is_ahead = |rev: &String| *rev > tid_of(latest);
    let field = match &item.version {
        Version { at: Some(at), .. } if *at > latest => "time_us",
        Version { rev: Some(rev), .. } if is_ahead(rev) => "rev",
        _ => return Ok(item),
    };
    Err(Error::invalid(format!("{metadata}.{field}"), "TIME_AHEAD", "it lies in the future"))
}

fn event(key: &ServiceKey, item: &Fields<'_>, text: &str) -> Result<Item> {
    let source = item.object("source")?.ok_or_else(|| item.missing("source"))?;
    let origin = Origin::of(key, source.required("type")?, || source.at("type"))?;
    let metadata = source.object("metadata")?.unwrap_or_else(|| source.nothing("metadata"));
    let id = source.required("id")?;
    let version = version(&metadata)?;
    let raw = raw_record(text)?;
    if origin.source != SourceType::Bluesky {
        lexicon::event(item, &source, &metadata)?;
        if let Some(did) = metadata.text("did")? {
            account(did, || metadata.at("did"))?;
        }
        let name = origin.identifier(id, || source.at("id"))?;
        let address = Address::on(origin.shelf(key, Kind::Event), origin.source.as_str(), name);
        let content = Content::Fields(given(item));
        return Ok(Item { address, id: id.to_owned(), subject: None, version, content });
    }
    let named = AtUri::parse(id).ok();
    let did = match (&named, metadata.text("did")?) {
        (_, Some(did)) => account(did, || metadata.at("did"))?,
        (Some(uri), None) => uri.did.clone(),
        (None, None) => account(id, || source.at("id"))?,
    };
    let named_did = named.as_ref().map_or(id, |uri| uri.did.as_str());
    if named_did.starts_with("did:") && named_did != did.as_str() {
        return Err(Error::invalid(metadata.at("did"), "SOURCE_AMBIGUOUS", "source.id names another account"));
    }
    let uri = address(Kind::Event, did, named.as_ref().map(|uri| (uri, source.at("id"))), &metadata)?;
    let uri = uri.ok_or_else(|| metadata.missing("rkey"))?;
    let content = if let Some(raw) = raw {
        lexicon::check_record(item, &raw)?;
        Content::Verbatim(raw)
    } else {
        let record = lexicon::event(item, &source, &metadata)?;
        lexicon::check(item)?;
        Content::Fields(record)
    };
    let address = Address::of_network(Kind::Event, &uri);
    Ok(Item { id: address.uri.clone(), address, subject: None, version, content })
}

fn rsvp(key: &ServiceKey, item: &Fields<'_>) -> Result<Item> {
    let origin = Origin::of(key, item.required("eventSourceType")?, || item.at("eventSourceType"))?;
    let metadata = item.object("metadata")?.unwrap_or_else(|| item.nothing("metadata"));
    let did = account(item.required("userDid")?, || item.at("userDid"))?;
    let event = item.required("eventSourceId")?;
    item.text("userHandle")?;
    item.instant("timestamp")?;
    let version = version(&metadata)?;
    let status = web::answer(item.required("status")?);
    let status = status.ok_or_else(|| item.malformed("status", "going, interested or notgoing"))?;
    let id = item.text("sourceId")?;
    if origin.source != SourceType::Bluesky {
        let event = origin.identifier(event, || item.at("eventSourceId"))?;
        let id = id.map_or_else(|| format!("{did}/{}", only_answer(&event)), str::to_owned);
        let name = origin.identifier(&id, || item.at("sourceId"))?;
        let address = Address::on(origin.shelf(key, Kind::Rsvp), did.as_str(), name);
        let subject = origin.shelf(key, Kind::Event).uri(&event);
        return Ok(Item { address, id, subject: Some(subject), version, content: Content::Fields(given(item)) });
    }
    let subject = subject(item, &metadata, event)?.to_string();
    let malformed = || Error::invalid(item.at("sourceId"), "SOURCE_ID_MALFORMED", "expected the AT-URI of one record");
    let named = id.map(|id| AtUri::parse(id).map_err(|_| malformed())).transpose()?;
    if named.as_ref().is_some_and(|uri| uri.did != did) {
        return Err(Error::invalid(item.at("sourceId"), "SOURCE_AMBIGUOUS", "userDid names another account"));
    }
    let named = named.as_ref().map(|uri| (uri, item.at("sourceId")));
    let uri = if let Some(uri) = address(Kind::Rsvp, did.clone(), named, &metadata)? {
        uri
    } else {
        let rkey = RecordKey::parse(&bluesky::unnamed_answer(&subject))?;
        AtUri { did, collection: Nsid::parse(bluesky::RSVP)?, rkey }
    };
    let content = Content::Fields(lexicon::rsvp(item, &metadata, &subject, status)?);
    let address = Address::of_network(Kind::Rsvp, &uri);
    Ok(Item { id: address.uri.clone(), address, subject: Some(subject), version, content })
}

/// The event of the network that an answer is for: `eventSourceId` names it, or `metadata.eventUri` where the former is a DID.
fn subject(item: &Fields<'_>, metadata: &Fields<'_>, event: &str) -> Result<AtUri> {
    let read = |text: &str, field: String| {
        let why = "expected the AT-URI of an event here, or in metadata.eventUri";
        let uri = AtUri::parse(text).ok().filter(|uri| uri.collection.as_str() == bluesky::EVENT);
        uri.ok_or_else(|| Error::invalid(field, "EVENT_URI_MALFORMED", why))
    };
    let Some(uri) = metadata.text("eventUri")? else { return read(event, item.at("eventSourceId")) };
    let uri = read(uri, metadata.at("eventUri"))?;
    let is_other = match AtUri::parse(event) {
        Ok(named) => named != uri,
        Err(_) => event.starts_with("did:") && event != uri.did.as_str(),
    };
    if is_other {
        return Err(Error::invalid(metadata.at("eventUri"), "SOURCE_AMBIGUOUS", "eventSourceId names another event"));
    }
    Ok(uri)
}

/// Where the record is, as far as its metadata, or the AT-URI in the named field of the item, say so.
fn address(kind: Kind, did: Did, named: Option<(&AtUri, String)>, metadata: &Fields<'_>) -> Result<Option<AtUri>> {
    let expected = bluesky::collection(kind);
    if metadata.text("collection")?.is_some_and(|collection| collection != expected) {
        return Err(metadata.malformed("collection", expected));
    }
    let given = metadata.text("rkey")?;
    let given = given.map(|rkey| RecordKey::parse(rkey).map_err(|_| metadata.malformed("rkey", "a record key")));
    let rkey = match (given.transpose()?, named) {
        (_, Some((uri, field))) if uri.collection.as_str() != expected => {
            let why = format!("expected the AT-URI of a record in {expected}");
            return Err(Error::invalid(field, "SOURCE_ID_MALFORMED", why));
        }
        (Some(rkey), Some((uri, field))) if uri.rkey != rkey => {
            let why = format!("{field} names another record");
            return Err(Error::invalid(metadata.at("rkey"), "SOURCE_AMBIGUOUS", why));
        }
        (Some(rkey), _) => rkey,
        (None, Some((uri, _))) => uri.rkey.clone(),
        (None, None) => return Ok(None),
    };
    Ok(Some(AtUri { did, collection: Nsid::parse(expected)?, rkey }))
}

fn version(metadata: &Fields<'_>) -> Result<Version> {
    let rev = metadata.text("rev")?;
    if rev.is_some_and(|rev| !is_tid(rev)) {
        return Err(metadata.malformed("rev", "a TID"));
    }
    let cid = metadata.text("cid")?;
    if cid.is_some_and(|cid| Cid::parse(cid).is_err()) {
        return Err(metadata.malformed("cid", "a CID"));
    }
    let at = match metadata.get("time_us") {
        None => None,
        Some(value) => {
            let micros = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            let at = micros.and_then(DateTime::from_timestamp_micros).filter(|at| is_storable(*at));
            Some(at.ok_or_else(|| metadata.malformed("time_us", "microseconds since 1970"))?)
        }
    };
    Ok(Version { rev: rev.map(str::to_owned), at, cid: cid.map(str::to_owned) })
}

/// What an item gives, as it is kept: without what counts as absent, and without its version, which the ledger keeps
/// beside it.
fn given(item: &Fields<'_>) -> Map<String, Value> {
    fn tidy(fields: &mut Map<String, Value>) {
        fields.retain(|_, value| !value.is_null());
        for name in ["source", "metadata"] {
            if let Some(Value::Object(inner)) = fields.get_mut(name) {
                tidy(inner);
            }
        }
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.retain(|name, _| name != "rev" && name != "time_us");
        }
    }
    let mut fields = item.fields.clone();
    tidy(&mut fields);
    fields
}

/// `source.rawRecord`, letter for letter.
fn raw_record(text: &str) -> Result<Option<Box<RawValue>>> {
    #[derive(Deserialize)]
    struct Outer {
        source: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        raw_record: Option<Box<RawValue>>,
    }
    let outer: Outer =
        serde_json::from_str(text).map_err(|error| Error::invalid("source", "FIELD_MALFORMED", error.to_string()))?;
    let raw = outer.source.raw_record;
    if raw.as_ref().is_some_and(|raw| !raw.get().starts_with('{')) {
        return Err(Error::invalid("source.rawRecord", "FIELD_MALFORMED", "expected an object"));
    }
    Ok(raw)
}
