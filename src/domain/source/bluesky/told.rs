//! What programs tell of records of the network in fields: put in the place of those that are held.

use serde_json::{Map, Value, json};

/// Field of an event's fields that holds its page.
pub const PAGE: &str = "page";
/// What marks the page among the links of a record that was made of fields. So that either may be told without the other.
const IS_PAGE: &str = "isPage";

/// Puts fields in the place of those that are held. Of links the page and the others are fields of their own, and so are the
/// parts of `preferences`, and of `subject` while it names the same event; everything else is replaced as a whole.
pub(in crate::domain::source) fn merge(record: &mut Map<String, Value>, mut fields: Map<String, Value>) {
    // It is no record of its author's, and must not pass for one.
    record.remove("$type");
    let (listed, page) = (fields.remove("uris"), fields.remove(PAGE));
    if listed.is_some() || page.is_some() {
        let links = links(record.get("uris"), listed, page);
        record.insert("uris".into(), links);
    }
    for (name, value) in fields {
        match (name.as_str(), record.get_mut(&name), value) {
            ("preferences", Some(Value::Object(held)), Value::Object(given)) => held.extend(given),
            ("subject", Some(Value::Object(held)), Value::Object(given)) if held.get("uri") == given.get("uri") => {
                held.extend(given);
            }
            (_, _, value) => {
                record.insert(name, value);
            }
        }
    }
}

fn links(held: Option<&Value>, listed: Option<Value>, page: Option<Value>) -> Value {
    let held = held.and_then(Value::as_array).cloned().unwrap_or_default();
    let is_page = |link: &Value| link.get(IS_PAGE).and_then(Value::as_bool) == Some(true);
    let (mut pages, mut others): (Vec<Value>, Vec<Value>) = held.into_iter().partition(is_page);
    if let Some(Value::Array(listed)) = listed {
        others = listed;
    }
    if let Some(page) = page {
        pages = vec![json!({ "uri": page, (IS_PAGE): true })];
    }
    // No link is shown twice.
    pages.retain(|page| others.iter().all(|link| link.get("uri") != page.get("uri")));
    others.extend(pages);
    Value::Array(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(held: &Value, fields: &Value) -> Value {
        let (Value::Object(mut record), Value::Object(fields)) = (held.clone(), fields.clone()) else { panic!() };
        merge(&mut record, fields);
        Value::Object(record)
    }

    fn addresses(record: &Value) -> Vec<&str> {
        record["uris"].as_array().unwrap().iter().map(|link| link["uri"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_page_and_the_other_links_are_told_apart() {
        let own = json!({ "$type": "x", "uris": [{ "uri": "https://own.example/", "name": "Own" }] });
        let paged = merged(&own, &json!({ "page": "https://a.example/" }));
        assert_eq!(addresses(&paged), ["https://own.example/", "https://a.example/"]);
        assert_eq!((paged.get("$type"), &paged["uris"][0]["name"]), (None, &"Own".into()));
        let moved = merged(&paged, &json!({ "page": "https://b.example/" }));
        assert_eq!(addresses(&moved), ["https://own.example/", "https://b.example/"]);
        let listed = merged(&moved, &json!({ "uris": [{ "uri": "https://c.example/" }] }));
        assert_eq!(addresses(&listed), ["https://c.example/", "https://b.example/"]);
        assert_eq!(merged(&listed, &json!({ "name": "x" }))["uris"], listed["uris"]);
        let emptied = merged(&listed, &json!({ "uris": [] }));
        assert_eq!(addresses(&emptied), ["https://b.example/"]);
        let double = json!({ "uris": [{ "uri": "https://b.example/" }], "page": "https://b.example/" });
        assert_eq!(addresses(&merged(&emptied, &double)), ["https://b.example/"]);
    }

    #[test]
    fn a_part_leaves_the_other_parts() {
        let held =
            json!({ "preferences": { "theme": 1, "showInDiscovery": true }, "subject": { "uri": "a", "cid": "b" } });
        let shown = merged(&held, &json!({ "preferences": { "showInDiscovery": false }, "subject": { "uri": "a" } }));
        let expected =
            json!({ "preferences": { "theme": 1, "showInDiscovery": false }, "subject": { "uri": "a", "cid": "b" } });
        assert_eq!(shown, expected);
        // Of another event it was another version.
        assert_eq!(merged(&held, &json!({ "subject": { "uri": "c" } }))["subject"], json!({ "uri": "c" }));
    }
}
