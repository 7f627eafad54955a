//! Records of the network made of the fields of items, and what no such record can say.

use entities::sets::{EventVisibility, RsvpStatus};
use serde_json::{Map, Value, json, value::RawValue};

use super::fields::Fields;
use crate::{
    domain::source::{Draft, Kind, bluesky, lenient},
    error::{Error, Result},
    infra::atproto::syntax::Cid,
};

/// The record of an event. Checks every field, and so does for items of other origins.
pub(super) fn event(item: &Fields<'_>, source: &Fields<'_>, metadata: &Fields<'_>) -> Result<Map<String, Value>> {
    let mut record = Map::new();
    let name = item.required("name")?;
    record.insert("name".into(), name.into());
    if let Some(text) = item.text("description")? {
        record.insert("description".into(), text.into());
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
    // A draft is refused by `check`, where it has to be.
    if let Some(Some(status)) = item.one_of("status", &statuses)? {
        record.insert("status".into(), format!("{}#{status}", bluesky::EVENT).into());
    }
    if let Some(shown) = item.one_of("visibility", &VISIBILITIES)?.flatten() {
        record.insert("preferences".into(), json!({ "showInDiscovery": shown }));
    }
    if let Some(location) = item.object("location")? {
        record.insert("locations".into(), locations(&location)?);
    }
    if let Some(links) = metadata.links("uris")? {
        record.insert("uris".into(), links.into());
    }
    source.text("handle")?;
    if let Some(url) = source.text("url")? {
        record.insert(bluesky::PAGE.into(), url.into());
    }
    // Kept, though nothing is made of them yet.
    if let Some(value) = item.get("image") {
        if !value.is_string() && !value.is_object() {
            return Err(item.malformed("image", "text or an object"));
        }
        record.insert("image".into(), value.clone());
    }
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

/// What fields cannot say of a record of the network: that it is a draft, or private.
pub(super) fn check(item: &Fields<'_>) -> Result<()> {
    if item.text("status")? == Some("draft") {
        let why = "a record of the network cannot be a draft";
        return Err(Error::invalid(item.at("status"), "STATUS_UNSUPPORTED", why));
    }
    shown(item).map(|_| ())
}

/// The record itself speaks, and is read as leniently as one that a stream brings: of the fields beside it, which are copied from
/// it in many ways, only that counts which asks to hide what the record shows. Nothing is written of a record of which
/// nothing can be made, so that it takes the place of nothing.
pub(super) fn check_record(item: &Fields<'_>, raw: &RawValue) -> Result<()> {
    let draft = bluesky::read(Kind::Event, raw.get()).draft;
    let draft = draft.map_err(|refusal| Error::invalid("source.rawRecord", refusal.code, refusal.why))?;
    let is_shown = matches!(draft, Draft::Event(event) if event.visibility == EventVisibility::Public);
    match shown(item)? {
        Some(false) if is_shown => unsupported(item, "the record says otherwise"),
        _ => Ok(()),
    }
}

/// Whether lists are to show it, where that is said.
fn shown(item: &Fields<'_>) -> Result<Option<bool>> {
    match item.one_of("visibility", &VISIBILITIES)? {
        Some(None) => unsupported(item, "a record of the network cannot be private"),
        Some(shown) => Ok(shown),
        None => Ok(None),
    }
}

fn unsupported<T>(item: &Fields<'_>, why: &'static str) -> Result<T> {
    Err(Error::invalid(item.at("visibility"), "VISIBILITY_UNSUPPORTED", why))
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

/// The record of an answer to this event.
pub(super) fn rsvp(
    item: &Fields<'_>,
    metadata: &Fields<'_>,
    event: &str,
    status: RsvpStatus,
) -> Result<Map<String, Value>> {
    let mut answered = Map::from_iter([("uri".to_owned(), Value::from(event))]);
    // One that is none is passed over, as it is in records, from which it is copied.
    if let Some(cid) = metadata.get("eventCid").filter(|cid| cid.as_str().is_some_and(|cid| Cid::parse(cid).is_ok())) {
        answered.insert("cid".into(), cid.clone());
    }
    let status = match status {
        RsvpStatus::Confirmed => "going",
        RsvpStatus::Maybe => "interested",
        RsvpStatus::Cancelled => "notgoing",
    };
    let mut fields = Map::new();
    fields.insert("subject".into(), answered.into());
    fields.insert("status".into(), format!("{}#{status}", bluesky::RSVP).into());
    if let Some(timestamp) = item.instant("timestamp")? {
        fields.insert("createdAt".into(), timestamp.into());
    }
    Ok(fields)
}
