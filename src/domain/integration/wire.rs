//! `ExternalEventDto` and `ExternalRsvpDto`: what an item is about, and what it says, from the form that OpenMeet's processors
//! send.

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD_NOCASE;
use entities::sets::SourceType;
use sea_orm::ActiveEnum;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::{Kind, fields::Fields, lexicon};
use crate::{
    domain::{
        ingest::accepts,
        key::ServiceKey,
        source::{
            Source, bluesky,
            web::{self, Shelf},
        },
    },
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, Cid, Did, Nsid, RecordKey, is_storable, is_tid, tid_of},
};

/// An item whose form is right.
pub(super) struct Item {
    pub(super) address: Address,
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
/// not lie after `latest`: nothing could be said of it later. For records of the network their repositories tell the time.
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
    let is_own = matches!(item.address.source, Source::Web(_));
    let is_ahead = |rev: &String| is_own && *rev > tid_of(latest);
    let field = match &item.version {
        Version { at: Some(at), .. } if *at > latest => "time_us",
        Version { rev: Some(rev), .. } if is_ahead(rev) => "rev",
        _ => return Ok(item),
    };
    Err(Error::invalid(format!("{metadata}.{field}"), "TIME_AHEAD", "it lies in the future"))
}

fn event(key: &ServiceKey, item: &Fields<'_>, text: &str) -> Result<Item> {
    let source = item.object("source")?.ok_or_else(|| item.missing("source"))?;
    let kind = source_type(key, source.required("type")?, || source.at("type"))?;
    let metadata = source.object("metadata")?.unwrap_or_else(|| source.nothing("metadata"));
    let id = source.required("id")?;
    let version = version(&metadata)?;
    let record = lexicon::event(item, &source, &metadata)?;
    let raw = raw_record(text)?;
    if kind != SourceType::Bluesky {
        if let Some(did) = metadata.text("did")? {
            account(did, || metadata.at("did"))?;
        }
        let shelf = shelf(key, kind, Kind::Event);
        let address = Address::on(shelf, kind.as_str(), identifier(id, || source.at("id"))?);
        return Ok(Item { address, subject: None, version, content: Content::Fields(given(item)) });
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
    let uri = address(Kind::Event, did, named.as_ref(), &metadata)?.ok_or_else(|| metadata.missing("rkey"))?;
    lexicon::check(item, raw.as_deref())?;
    let content = raw.map_or(Content::Fields(record), Content::Verbatim);
    Ok(Item { address: Address::of_network(Kind::Event, &uri), subject: None, version, content })
}

fn rsvp(key: &ServiceKey, item: &Fields<'_>) -> Result<Item> {
    let kind = source_type(key, item.required("eventSourceType")?, || item.at("eventSourceType"))?;
    let metadata = item.object("metadata")?.unwrap_or_else(|| item.nothing("metadata"));
    let did = account(item.required("userDid")?, || item.at("userDid"))?;
    let event = item.required("eventSourceId")?;
    item.text("userHandle")?;
    item.instant("timestamp")?;
    let version = version(&metadata)?;
    if metadata.text("eventCid")?.is_some_and(|cid| Cid::parse(cid).is_err()) {
        return Err(metadata.malformed("eventCid", "a CID"));
    }
    let status = web::answer(item.required("status")?);
    let status = status.ok_or_else(|| item.malformed("status", "going, interested or notgoing"))?;
    let id = item.text("sourceId")?;
    if kind != SourceType::Bluesky {
        let event = identifier(event, || item.at("eventSourceId"))?;
        let id = match id {
            Some(id) => identifier(id, || item.at("sourceId"))?,
            None => format!("{did}/{}", only_answer(&event)),
        };
        let address = Address::on(shelf(key, kind, Kind::Rsvp), did.as_str(), id);
        let subject = shelf(key, kind, Kind::Event).uri(&event);
        return Ok(Item { address, subject: Some(subject), version, content: Content::Fields(given(item)) });
    }
    let (event, field) = metadata
        .text("eventUri")?
        .map_or_else(|| (event, item.at("eventSourceId")), |uri| (uri, metadata.at("eventUri")));
    let subject = AtUri::parse(event).ok().filter(|uri| uri.collection.as_str() == bluesky::EVENT);
    let why = "expected the AT-URI of an event here, or in metadata.eventUri";
    let subject = subject.ok_or_else(|| Error::invalid(field, "EVENT_URI_MALFORMED", why))?.to_string();
    let named = id.and_then(|id| AtUri::parse(id).ok());
    if named.as_ref().is_some_and(|uri| uri.did != did) {
        return Err(Error::invalid(item.at("sourceId"), "SOURCE_AMBIGUOUS", "userDid names another account"));
    }
    let uri = if let Some(uri) = address(Kind::Rsvp, did.clone(), named.as_ref(), &metadata)? {
        uri
    } else {
        let rkey = RecordKey::parse(&format!("integration-{}", only_answer(&subject)))?;
        AtUri { did, collection: Nsid::parse(bluesky::RSVP)?, rkey }
    };
    let content = Content::Fields(lexicon::rsvp(item, &metadata, &subject, status)?);
    Ok(Item { address: Address::of_network(Kind::Rsvp, &uri), subject: Some(subject), version, content })
}

/// Part of the name of an answer that has none: one for each person and event, whenever it comes.
fn only_answer(event: &str) -> String {
    let hash = BASE32_NOPAD_NOCASE.encode(&Sha256::digest(event)).to_ascii_lowercase();
    hash.chars().take(26).collect()
}

/// A source type that the key speaks for.
pub(super) fn source_type(key: &ServiceKey, name: &str, field: impl Fn() -> String) -> Result<SourceType> {
    let found = SourceType::try_from_value(&name.to_owned()).ok().filter(|source| *source != SourceType::Openmeet);
    let unknown = || Error::invalid(field(), "SOURCE_TYPE_UNKNOWN", "expected bluesky, web or other");
    let source = found.ok_or_else(unknown)?;
    if key.speaks_for(source) {
        return Ok(source);
    }
    Err(Error::Forbidden { why: "this key does not speak for this source" })
}

pub(super) fn shelf(key: &ServiceKey, source: SourceType, kind: Kind) -> Shelf {
    Shelf { source, tenant: key.tenant.id(), kind }
}

/// What a source calls something of its own.
pub(super) fn identifier(id: &str, field: impl Fn() -> String) -> Result<String> {
    let why = "expected at most 700 bytes without control characters";
    if web::is_id(id) { Ok(id.to_owned()) } else { Err(Error::invalid(field(), "SOURCE_ID_MALFORMED", why)) }
}

fn account(did: &str, field: impl Fn() -> String) -> Result<Did> {
    let found = Did::parse(did).ok().filter(|did| accepts(did.as_str()));
    found.ok_or_else(|| Error::invalid(field(), "DID_MALFORMED", "expected a did:plc or did:web"))
}

/// Where the record is, as far as its metadata or the AT-URI of the item say so.
fn address(kind: Kind, did: Did, named: Option<&AtUri>, metadata: &Fields<'_>) -> Result<Option<AtUri>> {
    let expected = bluesky::collection(kind);
    let collection = metadata.text("collection")?.or(named.map(|uri| uri.collection.as_str()));
    if collection.is_some_and(|collection| collection != expected) {
        return Err(metadata.malformed("collection", expected));
    }
    let Some(rkey) = metadata.text("rkey")?.or(named.map(|uri| uri.rkey.as_str())) else { return Ok(None) };
    let rkey = RecordKey::parse(rkey).map_err(|_| metadata.malformed("rkey", "a record key"))?;
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
