//! `community.lexicon.calendar.event`, with the extension fields that its writers agree on.

use entities::{
    location::Link,
    sets::{EventMode, EventStatus, EventVisibility},
};

use super::place;
use crate::domain::source::{DESCRIPTION_LIMIT, EventDraft, LINKS_LIMIT, NAME_LIMIT, Refusal, lenient::Reader, link};

const MODES: [(&str, EventMode); 5] = [
    ("inperson", EventMode::InPerson),
    ("virtual", EventMode::Virtual),
    ("hybrid", EventMode::Hybrid),
    ("online", EventMode::Virtual),
    ("offline", EventMode::InPerson),
];

const STATUSES: [(&str, EventStatus); 6] = [
    ("planned", EventStatus::Planned),
    ("scheduled", EventStatus::Scheduled),
    ("rescheduled", EventStatus::Rescheduled),
    ("postponed", EventStatus::Postponed),
    ("cancelled", EventStatus::Cancelled),
    ("canceled", EventStatus::Cancelled),
];

pub(super) fn read(reader: &mut Reader<'_>) -> Result<EventDraft, Refusal> {
    let Some(name) = reader.text("name", NAME_LIMIT, "NAME_SHORTENED") else {
        return Err(Refusal { code: "EVENT_NAME_MISSING", why: "an event has a name".into() });
    };
    let created_at = reader.instant("createdAt", "CREATED_AT_MALFORMED");
    if reader.field("createdAt").is_none() {
        reader.note("CREATED_AT_MISSING");
    }
    let starts_at = reader.instant("startsAt", "STARTS_AT_MALFORMED");
    let ends_at = reader.instant("endsAt", "ENDS_AT_MALFORMED");
    let places = place::read(reader);
    Ok(EventDraft {
        // A title is one line.
        name: name.split_whitespace().collect::<Vec<_>>().join(" "),
        description: reader.text("description", DESCRIPTION_LIMIT, "DESCRIPTION_MALFORMED"),
        starts_at,
        ends_at,
        time_zone: time_zone(reader),
        status: reader.token("status", &STATUSES, "STATUS_UNKNOWN").unwrap_or(EventStatus::Scheduled),
        mode: reader.token("mode", &MODES, "MODE_UNKNOWN").unwrap_or(EventMode::InPerson),
        visibility: visibility(reader),
        locations: places.locations,
        links: links(reader),
        page: None,
        point: places.point,
        created_at,
        search_text: String::new(),
    })
}

/// Written by some clients; only names that the time-zone database knows are kept.
fn time_zone(reader: &mut Reader<'_>) -> Option<String> {
    let name = reader.field("timezone")?.as_str().unwrap_or_default();
    let known = name.parse::<chrono_tz::Tz>().ok();
    if known.is_none() {
        reader.note("TIME_ZONE_UNKNOWN");
    }
    known.map(|zone| zone.name().to_owned())
}

/// An author may keep an event out of lists: `preferences.showInDiscovery` is `false` or `0`. Every other value, and
/// none, leaves it public.
fn visibility(reader: &Reader<'_>) -> EventVisibility {
    let shown = reader.field("preferences").and_then(|preferences| preferences.get("showInDiscovery"));
    let hidden = shown.is_some_and(|value| value.as_bool() == Some(false) || value.as_f64() == Some(0.0));
    if hidden { EventVisibility::Unlisted } else { EventVisibility::Public }
}

fn links(reader: &mut Reader<'_>) -> Vec<Link> {
    let Some(value) = reader.field("uris") else { return Vec::new() };
    let Some(entries) = value.as_array() else {
        reader.note("URIS_MALFORMED");
        return Vec::new();
    };
    let found: Vec<Link> = entries.iter().filter_map(link::read).take(LINKS_LIMIT).collect();
    if found.len() != entries.len() {
        reader.note("URIS_MALFORMED");
    }
    found
}
