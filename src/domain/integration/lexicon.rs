//! Records of the network made of the fields of items, and what no such record can say.

use entities::sets::RsvpStatus;
use serde_json::{Map, Value, json, value::RawValue};

use super::fields::Fields;
use crate::{
    domain::source::{bluesky, lenient},
    error::{Error, Result},
};

/// The record of an event. Checks every field, and so does for items of other origins.
pub(super) fn event(item: &Fields<'_>, source: &Fields<'_>, metadata: &Fields<'_>) -> Result<Map<String, Value>> {
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

/// What no record of the network can be: a draft, or private. Nothing is shown that was asked to be hidden.
pub(super) fn check(item: &Fields<'_>, raw: Option<&RawValue>) -> Result<()> {
    if item.text("status")? == Some("draft") {
        let why = "a record of the network cannot be a draft";
        return Err(Error::invalid(item.at("status"), "STATUS_UNSUPPORTED", why));
    }
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

/// The record of an answer to this event.
pub(super) fn rsvp(
    item: &Fields<'_>,
    metadata: &Fields<'_>,
    event: &str,
    status: RsvpStatus,
) -> Result<Map<String, Value>> {
    let mut answered = Map::from_iter([("uri".to_owned(), Value::from(event))]);
    if let Some(cid) = metadata.text("eventCid")? {
        answered.insert("cid".into(), cid.into());
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
