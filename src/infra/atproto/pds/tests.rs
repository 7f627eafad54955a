use std::time::Duration;

use super::*;
use crate::infra::http::fake::{FakeDns, FakeHost, Said, json, local, response};

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const EVENT: &str = "community.lexicon.calendar.event";
const REV: &str = "3jzfcijpj2z2a";

fn did() -> Did {
    DID.parse().unwrap()
}

fn event() -> Nsid {
    EVENT.parse().unwrap()
}

fn entry(rkey: &str, value: &str) -> String {
    format!(r#"{{"uri":"at://{DID}/{EVENT}/{rkey}","cid":"bafy","value":{value},"more":1}}"#)
}

fn commit() -> String {
    json(200, &format!(r#"{{"cid":"bafyreieqq463374bbcbeq7gpmet5rvrpeqow6t4rtjzrkhnlumdylagaqa","rev":"{REV}"}}"#))
}

async fn pds(respond: impl Fn(&str) -> String + Send + Sync + 'static) -> (Repo, FakeHost, FakeDns) {
    let host = FakeHost::start("127.0.0.1:0", respond).await;
    let dns = FakeDns::start(|_, _| Said::Nothing).await;
    let origin = Url::parse(&format!("http://localhost:{}/", host.at.port())).unwrap();
    (Repo::new(&local(&dns), origin), host, dns)
}

#[tokio::test]
async fn records_come_verbatim_over_all_pages() {
    let odd = r#"{"b":1.50,"a":  1e400, "b":"\u0041","$type":"x"}"#;
    let (repo, _host, _dns) = pds(move |path| match path {
        _ if path.contains("getLatestCommit") => commit(),
        _ if path.contains("cursor=next%26") => json(200, &format!(r#"{{"records":[{}]}}"#, entry("two", "{}"))),
        _ => json(200, &format!(r#"{{"cursor":"next&","records":[{}]}}"#, entry("one", odd))),
    })
    .await;
    let listing = repo.list_records(&did(), &event()).await.unwrap();
    assert_eq!((listing.rev.as_deref(), listing.complete), (Some(REV), true));
    let records: Vec<_> = listing.records.iter().map(|r| (r.rkey.as_str(), r.json.get())).collect();
    assert_eq!(records, [("one", odd), ("two", "{}")]);
}

#[tokio::test]
async fn a_listing_with_bad_entries_is_kept_but_not_complete() {
    let (repo, _host, _dns) = pds(|path| match path {
        _ if path.contains("getLatestCommit") => json(501, r#"{"error":"MethodNotImplemented"}"#),
        _ => {
            let foreign = entry("x", "{}").replace(DID, "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb");
            let body = format!(r#"{{"records":[{foreign},7,{{"uri":5}},{}]}}"#, entry("one", "{}"));
            response(200, &format!("content-type: application/json\r\natproto-repo-rev: {REV}\r\n"), &body)
        }
    })
    .await;
    let listing = repo.list_records(&did(), &event()).await.unwrap();
    assert_eq!((listing.rev.as_deref(), listing.records.len(), listing.complete), (Some(REV), 1, false));
}

#[tokio::test]
async fn long_records_come_in_smaller_pages_and_an_endless_listing_ends() {
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(400));
    let (repo, host, _dns) = pds(move |path| {
        if path.contains("getLatestCommit") {
            return commit();
        }
        let number =
            |key: &str| path.split(['?', '&']).find_map(|pair| pair.strip_prefix(key)).unwrap_or("0").parse().unwrap();
        let (limit, from): (usize, usize) = (number("limit="), number("cursor="));
        let entries: Vec<_> = (from..60.min(from + limit)).map(|n| entry(&n.to_string(), &long)).collect();
        let next = if from + limit < 60 { format!(r#""cursor":"{}","#, from + limit) } else { String::new() };
        json(200, &format!(r#"{{{next}"records":[{}]}}"#, entries.join(",")))
    })
    .await;
    let listing = repo.list_records(&did(), &event()).await.unwrap();
    assert_eq!((listing.records.len(), listing.complete), (60, true));
    assert!(host.connections() < 30);

    let (repo, host, _dns) =
        pds(|_| json(200, &format!(r#"{{"cursor":"again","records":[{}]}}"#, entry("one", "{}")))).await;
    assert!(!repo.list_records(&did(), &event()).await.unwrap().complete);
    assert!(host.connections() <= 3);
}

#[tokio::test]
async fn a_record_is_found_absent_or_somebody_elses() {
    let (repo, _host, _dns) = pds(|path| match path.rsplit('=').next().unwrap() {
        "there" => json(200, &entry("there", r#"{"name":"x"}"#)),
        "other" => json(200, &entry("there", "{}")),
        "gone" => json(400, r#"{"error":"RecordNotFound","message":"Could not locate record: at://x"}"#),
        "old" => json(400, r#"{"error":"InvalidRequest","message":"Could not locate record: at://x"}"#),
        "moved" => json(400, r#"{"error":"RepoDeactivated","message":"Repo has been deactivated"}"#),
        "busy" => response(429, "retry-after: 9\r\n", ""),
        _ => json(500, "x"),
    })
    .await;
    let (departed, _host, _dns) = pds(|path| match path {
        _ if path.contains("getRepoStatus") => json(400, r#"{"error":"RepoNotFound"}"#),
        _ => json(501, r#"{"error":"MethodNotImplemented"}"#),
    })
    .await;
    let answer = departed.get_record(&did(), &event(), &"x".parse().unwrap()).await;
    assert!(matches!(answer, Err(Error::NotFound { what: "repo", .. })));
    let get = async |rkey: &str| repo.get_record(&did(), &event(), &rkey.parse().unwrap()).await;
    assert_eq!(get("there").await.unwrap().unwrap().json.get(), r#"{"name":"x"}"#);
    assert!(get("gone").await.unwrap().is_none() && get("old").await.unwrap().is_none());
    assert!(matches!(get("moved").await, Err(Error::NotFound { what: "repo", .. })));
    assert!(matches!(get("other").await, Err(Error::Upstream { .. })));
    assert!(matches!(get("broken").await, Err(Error::Upstream { .. })));
    assert!(
        matches!(get("busy").await, Err(Error::RateLimited { retry_after }) if retry_after == Duration::from_secs(9))
    );
    assert!(matches!(get("there").await, Err(Error::RateLimited { .. })), "nor is anything else asked of it then");
}

#[tokio::test]
async fn the_status_of_a_repo_is_told_unknown_or_a_failure() {
    let known = |body: &str| {
        let body = body.to_owned();
        async move {
            let (repo, _host, _dns) = pds(move |_| json(200, &body)).await;
            repo.status(&did()).await
        }
    };
    let status = known(&format!(r#"{{"did":"{DID}","active":false,"status":"takendown","new":[1.5]}}"#)).await.unwrap();
    assert_eq!(status, Some(RepoStatus { active: false, status: Some("takendown".into()), rev: None }));
    let status = known(&format!(r#"{{"did":"{DID}","active":true,"rev":"{REV}"}}"#)).await.unwrap();
    assert_eq!(status, Some(RepoStatus { active: true, status: None, rev: Some(REV.into()) }));
    assert!(known(r#"{"did":"did:plc:x","active":true}"#).await.is_err());
    assert!(known("<html>").await.is_err());

    for (status, body, outcome) in [
        (400, r#"{"error":"RepoNotFound","message":"Could not find repo for DID: x"}"#, "none"),
        (400, r#"{"error":"InvalidRequest","message":"Could not find repo: x"}"#, "none"),
        (401, r#"{"error":"AuthMissing"}"#, "failure"),
        (502, "<html>", "failure"),
        (429, "", "busy"),
    ] {
        let (repo, _host, _dns) = pds(move |_| json(status, body)).await;
        let told = match repo.status(&did()).await {
            Ok(None) => "none",
            Ok(Some(_)) => "status",
            Err(Error::RateLimited { .. }) => "busy",
            Err(Error::Upstream { service: "pds", .. }) => "failure",
            Err(error) => error.code().as_str(),
        };
        assert_eq!(told, outcome, "{status} {body}");
    }
    let (repo, host, _dns) = pds(|_| String::new()).await;
    drop(host);
    assert!(matches!(repo.status(&did()).await, Err(Error::Upstream { .. })));
}
