//! What is asked for is served, and what is served for people and programs can be reached: by the ingress, and in the manual.

use std::collections::BTreeSet;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use gateway::api::http::router;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    files::{documents, read, text},
    kubernetes::{EXAMPLE, base, of_kind},
};
use crate::support::{app::TestApp, database::sqlite};

/// For those who run the gateway; nobody else is to reach them.
const INNER: &[&str] = &["/health/live", "/health/ready", "/metrics"];

/// What the role api serves.
async fn with_doors(look: impl AsyncFnOnce(Router)) {
    let test = sqlite().await;
    let app = TestApp::open(&test).await.app;
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    look(router(&app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap()).await;
    drop(app);
    test.discard().await;
}

/// Every path of a router. Only the text that is made for people who debug it has them.
fn routes(doors: &Router) -> BTreeSet<String> {
    let shown = format!("{doors:?}");
    let (_, listed) = shown.split_once("paths: {").expect("a router shows its paths");
    let (listed, _) = listed.split_once("} }").unwrap();
    let found: BTreeSet<_> = listed.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(found.contains("/graphql") && found.contains("/metrics") && found.len() > 20, "{shown}");
    found
}

/// The path itself, or one below it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn ingress_paths() -> Vec<Value> {
    documents(&format!("{EXAMPLE}/ingress.yaml"))[0]["spec"]["rules"][0]["http"]["paths"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_ingress_leads_to_everything_but_what_watches_the_process() {
    with_doors(async |doors| {
        let let_in = ingress_paths();
        for path in routes(&doors) {
            let leads = let_in.iter().any(|rule| match (text(&rule["path"]), text(&rule["pathType"])) {
                (exact, "Exact") => exact == path,
                (folder, "Prefix") => is_within(&path, folder),
                (_, other) => panic!("{other} means what its controller makes of it"),
            });
            assert_eq!(leads, !INNER.contains(&&*path), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_manual_names_every_path() {
    let manual = read("README.md");
    let table = manual.split("## What it serves").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let named: Vec<_> = table.split('`').skip(1).step_by(2).filter(|word| word.starts_with('/')).collect();
    with_doors(async |doors| {
        let routes = routes(&doors);
        for path in routes.iter().filter(|path| *path != "/") {
            let is_named = named.iter().any(|named| is_within(path, named.trim_end_matches("/…")));
            assert!(is_named, "{path} is not in the table of README.md");
        }
        for name in named {
            let is_served = routes.iter().any(|path| is_within(path, name.trim_end_matches("/…")));
            assert!(is_served, "README.md has {name}, which nothing serves");
        }
    })
    .await;
}

#[tokio::test]
async fn paths_that_are_asked_for_are_served() {
    let mut paths = BTreeSet::new();
    for deployment in of_kind(&base(), "Deployment") {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            paths.insert(text(&container[probe]["httpGet"]["path"]).to_owned());
        }
    }
    // Of a folder there need not be anything but what is in it.
    let exact = ingress_paths().into_iter().filter(|path| path["pathType"] == "Exact");
    paths.extend(exact.map(|path| text(&path["path"]).to_owned()));
    let monitor = &documents("deploy/kubernetes/monitoring/pod-monitor.yaml")[0];
    paths.insert(text(&monitor["spec"]["podMetricsEndpoints"][0]["path"]).to_owned());
    assert!(paths.contains("/health/ready") && paths.contains("/metrics"), "{paths:?}");

    with_doors(async |doors| {
        let routes = routes(&doors);
        for path in paths {
            let response = doors.clone().oneshot(Request::get(&path).body(Body::empty()).unwrap()).await.unwrap();
            assert_ne!(response.status(), StatusCode::NOT_FOUND, "{path}");
        }
        for folder in ingress_paths().iter().map(|path| text(&path["path"])) {
            assert!(routes.iter().any(|path| is_within(path, folder)), "nothing is served within {folder}");
        }
    })
    .await;
}
