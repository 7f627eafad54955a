//! `ExternalEventDto` and `ExternalRsvpDto`: from the form that OpenMeet's processors send to a record of the network.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD_NOCASE;
use entities::sets::SourceType;
use sea_orm::ActiveEnum;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use sha2::{Digest, Sha256};

use super::Kind;
use crate::{
    domain::{
        ingest::accepts,
        key::ServiceKey,
        source::{bluesky, lenient},
    },
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, Cid, Did, Nsid, RecordKey, is_storable, is_tid, parse_datetime},
};

/// An item whose form is right.
pub(super) struct Item {
    pub(super) uri: AtUri,
    /// The event that an answer is for.
    pub(super) subject: Option<AtUri>,
    pub(super) version: Version,
    pub(super) content: Content,
}

/// Which version of the record it is, as far as that is said.
pub(super) struct Version {
    /// Revision of the repository.
    pub(super) rev: Option<String>,
    /// When the stream saw it.
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) cid: Option<String>,
}

pub(super) enum Content {
    /// The record itself.
    Verbatim(Box<RawValue>),
    /// Fields of the record; those that are absent stay as they are.
    Fields(Map<String, Value>),
}

/// Reads an item. `null` counts as absent, and fields that nobody here knows are passed over.
pub(super) fn read(kind: Kind, key: &ServiceKey, text: &str, max_bytes: usize) -> Result<Item> {
    if text.len() > max_bytes {
        return Err(Error::invalid("item", "RECORD_TOO_LARGE", format!("it is longer than {max_bytes} bytes")));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| Error::invalid("item", "ITEM_NOT_JSON", error.to_string()))?;
    let fields = value.as_object().ok_or_else(|| Error::invalid("item", "ITEM_NOT_OBJECT", "expected an object"))?;
    let item = Fields { fields, path: String::new() };
    match kind {
        Kind::Event => event(key, &item, text),
        Kind::Rsvp => rsvp(key, &item),
    }
}

fn event(key: &ServiceKey, item: &Fields<'_>, text: &str) -> Result<Item> {
    let source = item.object("source")?.ok_or_else(|| item.missing("source"))?;
    of_network(source_type(key, source.required("type")?, || source.at("type"))?, || source.at("type"))?;
    let metadata = source.object("metadata")?.unwrap_or_else(|| source.nothing("metadata"));
    let id = source.required("id")?;
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
    let fields = event_fields(item, &source, &metadata)?;
    let raw = raw_record(text)?;
    check_visibility(item, raw.as_deref())?;
    let content = raw.map_or(Content::Fields(fields), Content::Verbatim);
    Ok(Item { uri, subject: None, version: version(&metadata)?, content })
}

fn event_fields(item: &Fields<'_>, source: &Fields<'_>, metadata: &Fields<'_>) -> Result<Map<String, Value>> {
    let mut record = Map::new();
    let name = item.required("name")?;
    record.insert("name".into(), name.into());
    for (field, target) in [("description", "description"), ("image", "image")] {
        if let Some(text) = item.text(field)? {
            record.insert(target.into(), text.into());
        }
    }
    for (field, target) in [("startDate", "startsAt"), ("endDate", "endsAt")] {
        if let Some(text) = item.instant(field)? {
            record.insert(target.into(), text.into());
        }
    }
    let modes = [("in-person", Some("inperson")), ("online", Some("virtual")), ("hybrid", Some("hybrid"))];
    if let Some(mode) = item.one_of("type", &modes)?.flatten() {
        record.insert("mode".into(), format!("{}#{mode}", bluesky::EVENT).into());
    }
    let statuses = [
        ("published", Some("scheduled")),
        ("pending", Some("planned")),
        ("cancelled", Some("cancelled")),
        ("draft", None),
    ];
    match item.one_of("status", &statuses)? {
        Some(Some(status)) => {
            record.insert("status".into(), format!("{}#{status}", bluesky::EVENT).into());
        }
        Some(None) => {
            let why = "a record of the network cannot be a draft";
            return Err(Error::invalid(item.at("status"), "STATUS_UNSUPPORTED", why));
        }
        None => {}
    }
    if let Some(shown) = item.one_of("visibility", &VISIBILITIES)?.flatten() {
        record.insert("preferences".into(), json!({ "showInDiscovery": shown }));
    }
    if let Some(location) = item.object("location")? {
        record.insert("locations".into(), locations(&location)?);
    }
    let mut links: Vec<&str> = metadata.texts("uris")?.unwrap_or_default();
    links.extend(source.text("url")?.filter(|url| !links.contains(url)));
    if !links.is_empty() {
        record.insert("uris".into(), links.iter().map(|link| json!({ "uri": link })).collect());
    }
    // Kept, though nothing is made of them yet.
    if let Some(categories) = item.texts("categories")? {
        record.insert("categories".into(), json!(categories));
    }
    if let Some(value) = item.get("isRecurring") {
        let flag = value.as_bool().ok_or_else(|| item.malformed("isRecurring", "true or false"))?;
        record.insert("isRecurring".into(), flag.into());
    }
    if let Some(value) = item.get("recurrenceRule") {
        if !value.is_string() && !value.is_object() {
            return Err(item.malformed("recurrenceRule", "text or an object"));
        }
        record.insert("recurrenceRule".into(), value.clone());
    }
    Ok(record)
}

/// Whether lists show it; `None` for what no record of the network can be.
const VISIBILITIES: [(&str, Option<bool>); 3] = [("public", Some(true)), ("unlisted", Some(false)), ("private", None)];

/// Nothing is shown that was asked to be hidden.
fn check_visibility(item: &Fields<'_>, raw: Option<&RawValue>) -> Result<()> {
    let refuse = |why| Err(Error::invalid(item.at("visibility"), "VISIBILITY_UNSUPPORTED", why));
    match (item.one_of("visibility", &VISIBILITIES)?, raw) {
        (Some(None), _) => refuse("a record of the network cannot be private"),
        (Some(Some(false)), Some(raw)) => {
            let record: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            let shown = record.pointer("/preferences/showInDiscovery");
            if shown.and_then(Value::as_bool) == Some(false) { Ok(()) } else { refuse("the record says otherwise") }
        }
        _ => Ok(()),
    }
}

fn locations(location: &Fields<'_>) -> Result<Value> {
    let name = location.text("description")?;
    let point = match (location.get("lat"), location.get("lon")) {
        (None, None) => None,
        (lat, lon) => {
            let degrees = |field: &str, value, bound| {
                lenient::degrees(value, bound).ok_or_else(|| location.malformed(field, "degrees"))
            };
            Some((degrees("lat", lat, 90.0)?, degrees("lon", lon, 180.0)?))
        }
    };
    let mut entries = Vec::new();
    match (point, name) {
        (Some((lat, lon)), name) => entries.push(json!({
            "$type": "community.lexicon.location.geo", "latitude": lat.to_string(), "longitude": lon.to_string(),
            "name": name,
        })),
        (None, Some(name)) => entries.push(json!({ "$type": "community.lexicon.location.address", "name": name })),
        (None, None) => {}
    }
    if let Some(url) = location.text("url")? {
        entries.push(json!({ "$type": "community.lexicon.calendar.event#uri", "uri": url }));
    }
    Ok(Value::Array(entries))
}

fn rsvp(key: &ServiceKey, item: &Fields<'_>) -> Result<Item> {
    let field = || item.at("eventSourceType");
    of_network(source_type(key, item.required("eventSourceType")?, field)?, field)?;
    let metadata = item.object("metadata")?.unwrap_or_else(|| item.nothing("metadata"));
    let did = account(item.required("userDid")?, || item.at("userDid"))?;
    let event = item.required("eventSourceId")?;
    let (event, field) = metadata
        .text("eventUri")?
        .map_or_else(|| (event, item.at("eventSourceId")), |uri| (uri, metadata.at("eventUri")));
    let subject = AtUri::parse(event).ok().filter(|uri| uri.collection.as_str() == bluesky::EVENT);
    let why = "expected the AT-URI of an event here, or in metadata.eventUri";
    let subject = subject.ok_or_else(|| Error::invalid(field, "EVENT_URI_MALFORMED", why))?;
    item.text("userHandle")?;
    let named = item.text("sourceId")?.and_then(|id| AtUri::parse(id).ok());
    if named.as_ref().is_some_and(|uri| uri.did != did) {
        return Err(Error::invalid(item.at("sourceId"), "SOURCE_AMBIGUOUS", "userDid names another account"));
    }
    let uri = if let Some(uri) = address(Kind::Rsvp, did.clone(), named.as_ref(), &metadata)? {
        uri
    } else {
        // One answer for each person and event, whenever it comes.
        let hash = BASE32_NOPAD_NOCASE.encode(&Sha256::digest(subject.to_string())).to_ascii_lowercase();
        let rkey: String = hash.chars().take(26).collect();
        let rkey = RecordKey::parse(&format!("integration-{rkey}"))?;
        AtUri { did, collection: Nsid::parse(bluesky::RSVP)?, rkey }
    };
    let statuses = [
        ("going", "going"),
        ("confirmed", "going"),
        ("interested", "interested"),
        ("maybe", "interested"),
        ("notgoing", "notgoing"),
        ("cancelled", "notgoing"),
    ];
    let given = item.required("status")?;
    let token = given.rsplit('#').next().unwrap_or(given);
    let found = statuses.iter().find(|(name, _)| *name == token);
    let (_, status) = found.ok_or_else(|| item.malformed("status", "going, interested or notgoing"))?;
    let mut answered = Map::from_iter([("uri".to_owned(), Value::from(subject.to_string()))]);
    if let Some(cid) = metadata.text("eventCid")? {
        Cid::parse(cid).map_err(|_| metadata.malformed("eventCid", "a CID"))?;
        answered.insert("cid".into(), cid.into());
    }
    let mut fields = Map::new();
    fields.insert("subject".into(), answered.into());
    fields.insert("status".into(), format!("{}#{status}", bluesky::RSVP).into());
    if let Some(timestamp) = item.instant("timestamp")? {
        fields.insert("createdAt".into(), timestamp.into());
    }
    Ok(Item { uri, subject: Some(subject), version: version(&metadata)?, content: Content::Fields(fields) })
}

/// A source type that the key speaks for.
pub(super) fn source_type(key: &ServiceKey, name: &str, field: impl Fn() -> String) -> Result<SourceType> {
    let found = SourceType::try_from_value(&name.to_owned());
    let source = found.map_err(|_| Error::invalid(field(), "SOURCE_TYPE_UNKNOWN", "expected bluesky, web or other"))?;
    if key.speaks_for(source) {
        return Ok(source);
    }
    Err(Error::Forbidden { why: "this key does not speak for this source" })
}

fn of_network(source: SourceType, field: impl Fn() -> String) -> Result<()> {
    if source == SourceType::Bluesky {
        return Ok(());
    }
    let why = "only records of the network are taken so far: bluesky";
    Err(Error::invalid(field(), "SOURCE_TYPE_UNSUPPORTED", why))
}

fn account(did: &str, field: impl Fn() -> String) -> Result<Did> {
    let found = Did::parse(did).ok().filter(|did| accepts(did.as_str()));
    found.ok_or_else(|| Error::invalid(field(), "DID_MALFORMED", "expected a did:plc or did:web"))
}

/// Where the record is, as far as its metadata or the AT-URI of the item say so.
fn address(kind: Kind, did: Did, named: Option<&AtUri>, metadata: &Fields<'_>) -> Result<Option<AtUri>> {
    let collection = metadata.text("collection")?.or(named.map(|uri| uri.collection.as_str()));
    if collection.is_some_and(|collection| collection != kind.collection()) {
        return Err(metadata.malformed("collection", kind.collection()));
    }
    let Some(rkey) = metadata.text("rkey")?.or(named.map(|uri| uri.rkey.as_str())) else { return Ok(None) };
    let rkey = RecordKey::parse(rkey).map_err(|_| metadata.malformed("rkey", "a record key"))?;
    Ok(Some(AtUri { did, collection: Nsid::parse(kind.collection())?, rkey }))
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

/// The fields of an object, with where it stands.
struct Fields<'a> {
    fields: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn missing(&self, name: &str) -> Error {
        Error::invalid(self.at(name), "FIELD_MISSING", "it must be given")
    }

    fn malformed(&self, name: &str, expected: &str) -> Error {
        Error::invalid(self.at(name), "FIELD_MALFORMED", format!("expected {expected}"))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.malformed(name, "text"))).transpose()
    }

    /// Text with something in it.
    fn required(&self, name: &str) -> Result<&'a str> {
        self.text(name)?.filter(|text| !lenient::clean(text).is_empty()).ok_or_else(|| self.missing(name))
    }

    fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        texts.map(Some).ok_or_else(|| self.malformed(name, "a list of texts"))
    }

    fn instant(&self, name: &str) -> Result<Option<&'a str>> {
        let text = self.text(name)?;
        if text.is_some_and(|text| parse_datetime(text.trim()).is_none()) {
            return Err(self.malformed(name, "an instant such as 2026-09-01T18:00:00Z"));
        }
        Ok(text)
    }

    fn object(&self, name: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let fields = value.as_object().ok_or_else(|| self.malformed(name, "an object"))?;
        Ok(Some(Fields { fields, path: self.at(name) }))
    }

    /// In place of an object that is absent.
    fn nothing(&self, name: &str) -> Fields<'static> {
        static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        Fields { fields: &NOTHING, path: self.at(name) }
    }

    fn one_of<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = known.iter().find(|(known, _)| *known == text).map(|(_, member)| *member);
        let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.malformed(name, &format!("one of {}", names())))
    }
}
