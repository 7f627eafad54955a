//! Alerts and dashboards ask for metrics, labels and values that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use gateway::{api::http::router, roles::Role, telemetry};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::files::{documents, list, read, text, under};
use crate::support::{app::TestApp, database::sqlite};

const ALERTS: &str = "deploy/prometheus/alerts.yaml";

/// What PromQL itself means by a word.
const LANGUAGE: &[&str] = &[
    "absent",
    "by",
    "count",
    "delta",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "or",
    "rate",
    "sum",
    "unless",
    "up",
    "vector",
];
/// Labels that Prometheus gives; the others are of the program.
const GIVEN: &[&str] = &["instance", "job", "le", "role"];

/// Metrics that were described, and whether each is a histogram; and the values of labels with which counters begin.
#[derive(Default)]
struct Described {
    metrics: Mutex<BTreeMap<String, bool>>,
    labels: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Described {
    fn note(&self, name: &KeyName, is_histogram: bool) {
        self.metrics.lock().unwrap().insert(name.as_str().to_owned(), is_histogram);
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.note(&name, false);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.note(&name, false);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.note(&name, true);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        for label in key.labels() {
            let mut labels = self.labels.lock().unwrap();
            labels.entry(label.key().to_owned()).or_default().insert(label.value().to_owned());
        }
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The names under which Prometheus knows what the program describes, and the values of labels of closed sets.
async fn series() -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let test = sqlite().await;
    let app = TestApp::open(&test).await.app;
    let described = Described::default();
    with_local_recorder(&described, || {
        telemetry::describe();
        // GraphQL describes its own when it is built.
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        drop(router(&app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap());
    });
    drop(app);
    test.discard().await;
    let labels = described.labels.into_inner().unwrap();
    let described = described.metrics.into_inner().unwrap();
    assert!(described.keys().any(|name| name.starts_with("gateway_graphql_")) && described.len() > 20, "{described:?}");
    let names = |(name, is_histogram): (String, bool)| {
        if is_histogram {
            ["_bucket", "_count", "_sum"].map(|ending| format!("{name}{ending}")).to_vec()
        } else {
            vec![name]
        }
    };
    (described.into_iter().flat_map(names).collect(), labels)
}

/// Every question that is asked, with where it stands.
fn questions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for rule in rules() {
        found.push((text(&rule["alert"]).to_owned(), text(&rule["expr"]).to_owned()));
    }
    for (path, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                found.push((format!("{path}, {}", text(&panel["title"])), text(&target["expr"]).to_owned()));
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["query"]["query"].as_str() {
                let (_, inner) = query.split_once("label_values(").unwrap();
                found.push((path.clone(), inner.trim_end_matches(')').to_owned()));
            }
        }
    }
    found
}

fn rules() -> Vec<Value> {
    let groups = documents(ALERTS).remove(0)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let parse = |path: String| (path.clone(), serde_json::from_str(&read(&path)).unwrap());
    under("deploy/grafana/dashboards", "json").into_iter().map(parse).collect()
}

/// The words of an expression, numbers, durations and quoted texts left out.
fn words(expression: &str) -> BTreeSet<String> {
    let bare: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let bare: String = bare.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let parts = bare.split(|c: char| !(c.is_ascii_alphanumeric() || "_:.".contains(c)));
    parts.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).map(str::to_owned).collect()
}

/// Label and value of every matcher; of alternatives each.
fn matchers(expression: &str) -> Vec<(String, String)> {
    let parts: Vec<_> = expression.split('"').collect();
    let mut found = Vec::new();
    for pair in parts.chunks_exact(2) {
        let label = pair[0].trim_end_matches(['=', '~', '!']);
        let label = label.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap();
        found.extend(pair[1].split('|').map(|value| (label.to_owned(), value.to_owned())));
    }
    found
}

#[tokio::test]
async fn alerts_and_dashboards_ask_for_what_is_measured() {
    let (series, labels) = series().await;
    let source: String = under("src", "rs").iter().map(|path| read(path)).collect();
    let is_label = |word: &str| GIVEN.contains(&word) || source.contains(&format!("\"{word}\" =>"));
    let mut wrong = Vec::new();
    for (place, expression) in questions() {
        assert_eq!(expression.matches('(').count(), expression.matches(')').count(), "{place}: {expression}");
        for word in words(&expression) {
            if !series.contains(&word) && !LANGUAGE.contains(&word.as_str()) && !is_label(&word) {
                wrong.push(format!("{place}: {word}"));
            }
        }
        for (label, value) in matchers(&expression) {
            let exists = match label.as_str() {
                "role" => value.parse::<Role>().is_ok(),
                // Those of counters that begin with 0 are all there; of other labels nothing is known.
                label => labels.get(label).is_none_or(|known| known.contains(&value)),
            };
            if !exists {
                wrong.push(format!("{place}: {label}={value}"));
            }
        }
    }
    assert!(wrong.is_empty(), "nothing is known of\n{}", wrong.join("\n"));
}

#[test]
fn the_words_of_an_expression_are_found() {
    let expression = r#"sum by (code) (rate(a_total{code=~"X|Y", role!="api"}[5m])) / 1e3 > 0.5 or b:c"#;
    let expected = ["a_total", "b:c", "by", "code", "or", "rate", "role", "sum"];
    assert_eq!(words(expression), expected.map(str::to_owned).into());
    let expected = [("code", "X"), ("code", "Y"), ("role", "api")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(matchers(expression), expected);
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let manual = read("deploy/README.md");
    let mut roles = BTreeSet::new();
    for rule in rules() {
        let name = text(&rule["alert"]);
        assert!(["critical", "warning"].contains(&text(&rule["labels"]["severity"])), "{name}");
        for annotation in ["summary", "description"] {
            assert!(!text(&rule["annotations"][annotation]).is_empty(), "{name}");
        }
        assert!(manual.contains(&format!("`{name}`")), "deploy/README.md does not say what to do about {name}");
        roles.extend(rule["labels"]["role"].as_str().map(str::to_owned));
    }
    assert_eq!(roles, Role::ALL.map(|role| role.as_str().to_owned()).into(), "each role has somebody to miss it");
}

#[test]
fn dashboards_can_be_loaded_beside_each_other() {
    let dashboards = dashboards();
    let mut uids = BTreeSet::new();
    for (path, dashboard) in &dashboards {
        assert!(uids.insert(text(&dashboard["uid"])), "{path}: the uid of another");
        assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{path}");
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert!(variables.iter().any(|v| v["name"] == "datasource" && v["type"] == "datasource"), "{path}");
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}, {title}: the id of another panel");
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(&panel["description"]).is_empty(), "{path}, {title}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{path}, {title}");
            for asked in targets.iter().chain([panel]) {
                assert_eq!(asked["datasource"]["uid"], "${datasource}", "{path}, {title}");
            }
        }
    }
    assert_eq!(dashboards.len(), 2);
}

#[test]
fn prometheus_asks_every_role() {
    let config = documents("deploy/prometheus/prometheus.yaml").remove(0);
    let job = &config["scrape_configs"][0];
    assert_eq!(job["job_name"], "gateway");
    let asked: BTreeSet<_> = list(&job["dns_sd_configs"][0]["names"]).into_iter().collect();
    assert_eq!(asked, Role::ALL.map(|role| role.as_str().to_owned()).into());
    for file in list(&config["rule_files"]) {
        assert!(under("deploy/prometheus", "yaml").contains(&format!("deploy/prometheus/{file}")), "{file}");
    }
}
