//! What may be set, how, and what a mistake says.

use std::path::Path;

use proptest::prelude::*;
use toml::{Table, Value};

use super::{layers::Layers, *};

const NOWHERE: [(String, String); 0] = [];

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_file(text: &str) -> Result<Config> {
    load(Some(File { path: Path::new("gateway.toml"), text }), NOWHERE, Table::new())
}

fn from_variable(name: &str, value: &str) -> Result<Config> {
    load(None, variables(&[(name, value)]), Table::new())
}

fn error(result: Result<Config>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_default_file_alone_is_a_configuration() {
    let config = load(None, NOWHERE, Table::new()).unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.network.dns_server, None);
    assert_eq!(config.ingest.retention().as_secs(), 30 * 86_400);
}

#[test]
fn a_log_filter_that_is_no_ascii_is_refused() {
    // The filters' own parser panics at this one.
    let filter = format!(" {}ㅙ=", "x".repeat(57));
    assert!(error(from_variable("GATEWAY_LOG__LEVEL", &filter)).contains("expected a level"));
}

#[test]
fn every_key_of_the_default_file_is_explained() {
    let lines: Vec<_> = DEFAULT.lines().collect();
    let bare: Vec<_> = lines
        .windows(2)
        .filter(|pair| pair[1].starts_with(|c: char| c.is_ascii_lowercase()) && !pair[0].starts_with("# "))
        .map(|pair| pair[1])
        .collect();
    assert!(bare.is_empty(), "without a comment above: {bare:?}");
    let keys = lines.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).count();
    assert_eq!(keys, Layers::new().unwrap().keys().len(), "keys that this test did not see");
}

#[test]
fn later_layers_win() {
    let text = "[http]\nlisten = '127.0.0.1:1'\nmax_body_bytes = 2048\n[graphql]\nmax_depth = 7";
    let file = File { path: Path::new("gateway.toml"), text };
    let environment = variables(&[("GATEWAY_HTTP__LISTEN", "127.0.0.1:2"), ("GATEWAY_GRAPHQL__MAX_DEPTH", "8")]);
    let flags: Table = "http.listen = '127.0.0.1:3'".parse().unwrap();
    let config = load(Some(file), environment, flags).unwrap();
    assert_eq!((config.http.listen.port(), config.graphql.max_depth, config.http.max_body_bytes), (3, 8, 2048));
}

#[test]
fn the_particular_name_wins_over_database_url() {
    assert_eq!(from_variable("DATABASE_URL", "postgres://a/b").unwrap().database.url, "postgres://a/b");
    let both = variables(&[("GATEWAY_DATABASE__URL", "postgres://c/d"), ("DATABASE_URL", "postgres://a/b")]);
    assert_eq!(load(None, both, Table::new()).unwrap().database.url, "postgres://c/d");
}

#[test]
fn lists_are_toml_or_separated_by_commas() {
    let name = "GATEWAY_STREAMS__ENDPOINTS";
    for text in ["jetstream+ws://a/s, firehose+wss://b", r#"["jetstream+ws://a/s", "firehose+wss://b"]"#] {
        let config = from_variable(name, text).unwrap();
        assert_eq!(config.streams.endpoints, ["jetstream+ws://a/s", "firehose+wss://b"]);
    }
    assert!(from_variable(name, "").unwrap().streams.endpoints.is_empty());
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let cases = [
        (
            from_variable("GATEWAY_HTP__LISTEN", "x"),
            "accept environment variable GATEWAY_HTP__LISTEN: unknown; did you mean GATEWAY_HTTP__LISTEN?",
        ),
        (
            from_variable("GATEWAY_CONFG", "x"),
            "accept environment variable GATEWAY_CONFG: unknown; did you mean GATEWAY_CONFIG?",
        ),
        (
            from_variable("GATEWAY_http__listen", "127.0.0.1:1"),
            "accept environment variable GATEWAY_http__listen: unknown; did you mean GATEWAY_HTTP__LISTEN?",
        ),
        (
            from_variable("GATEWAY_STREAM__ENDPOINTS", "x"),
            "accept environment variable GATEWAY_STREAM__ENDPOINTS: unknown; did you mean GATEWAY_STREAMS__ENDPOINTS?",
        ),
        (
            from_variable("GATEWAY_LISTEN", "x"),
            "accept environment variable GATEWAY_LISTEN: unknown; did you mean GATEWAY_HTTP__LISTEN?",
        ),
        (
            from_variable("GATEWAY_ROLES", "ap"),
            "accept environment variable GATEWAY_ROLES: unknown; which roles a process runs is said by the flag --roles",
        ),
        (
            from_variable("GATEWAY_WORKERS", "4"),
            "accept environment variable GATEWAY_WORKERS: unknown; `openmeet-gateway config` prints every key",
        ),
        (
            from_file("[http]\nlissten = '127.0.0.1:1'"),
            "accept http.lissten in gateway.toml: unknown; did you mean http.listen?",
        ),
        (from_file("[grahpql]\nmax_depth = 1"), "accept grahpql in gateway.toml: unknown; did you mean graphql?"),
        (from_file("max_deph = 1"), "accept max_deph in gateway.toml: unknown; did you mean graphql.max_depth?"),
        (
            load(None, NOWHERE, "log.levle = 'info'".parse().unwrap()),
            "accept log.levle on the command line: unknown; did you mean log.level?",
        ),
    ];
    for (result, expected) in cases {
        let found = error(result);
        assert!(found.starts_with(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn what_orchestrators_set_beside_a_service_called_gateway_is_not_ours() {
    let names = ["GATEWAY_SERVICE_HOST", "GATEWAY_SERVICE_PORT_HTTP", "GATEWAY_PORT", "GATEWAY_PORT_8080_TCP_ADDR"];
    for name in names {
        from_variable(name, "tcp://10.0.0.1:8080").unwrap();
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_place() {
    let cases = [
        ("GATEWAY_HTTP__LISTEN", "somewhere"),
        ("GATEWAY_HTTP__MAX_BODY_BYTES", "many"),
        ("GATEWAY_HTTP__MAX_BODY_BYTES", "-1"),
        ("GATEWAY_HTTP__MAX_BODY_BYTES", "'2048'"),
        ("GATEWAY_HTTP__MAX_CONNECTIONS", "0"),
        ("GATEWAY_HTTP__HEADER_TIMEOUT_SECONDS", "0"),
        ("GATEWAY_HTTP__ALLOWED_ORIGINS", "openmeet.net"),
        ("GATEWAY_HTTP__ALLOWED_ORIGINS", "https://openmeet.net/"),
        ("GATEWAY_HTTP__ALLOWED_ORIGINS", "[1]"),
        ("GATEWAY_HTTP__PUBLIC_URL", "gateway"),
        ("GATEWAY_DATABASE__URL", "mysql://a/b"),
        ("GATEWAY_DATABASE__MIGRATE", "perhaps"),
        ("AMQP_URL", "http://user:secret@host"),
        ("GATEWAY_QUEUE__PREFIX", "a b"),
        ("GATEWAY_QUEUE__PARTITIONS", "0"),
        ("REDIS_URL", "http://user:secret@host"),
        ("GATEWAY_KV__NAMESPACE", "a:b"),
        ("GATEWAY_DATABASE__MAX_CONNECTIONS", "0"),
        ("GATEWAY_STREAMS__ENDPOINTS", "wss://jetstream2.us-east.bsky.network/subscribe"),
        ("GATEWAY_STREAMS__START", "yesterday"),
        ("GATEWAY_NETWORK__PLC_URL", "https://user:secret@plc.directory"),
        ("GATEWAY_NETWORK__DNS_SERVER", "dns.example.org"),
        ("GATEWAY_INGEST__RETENTION_DAYS", "99999999999"),
        ("GATEWAY_LOG__LEVEL", "inof"),
        ("GATEWAY_LOG__LEVEL", ""),
        ("GATEWAY_LOG__FORMAT", "xml"),
    ];
    for (name, value) in cases {
        let found = from_variable(name, value).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(found.starts_with(&format!("accept environment variable {name}: ")), "{name}={value}: {found:?}");
        assert!(!found.contains("secret"), "{found}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line_and_without_its_text() {
    let found = error(from_file("[database]\n\nurl = postgres://u:secret@h/d"));
    assert!(found.starts_with("accept gateway.toml: line 3: "), "{found}");
    assert!(!found.contains("secret"), "{found}");
    assert!(error(from_file("http = 1")).starts_with("accept http in gateway.toml: "));
}

#[test]
fn an_address_without_a_port_is_a_dns_server() {
    for (text, expected) in [("9.9.9.9", "9.9.9.9:53"), ("127.0.0.1:5353", "127.0.0.1:5353"), ("::1", "[::1]:53")] {
        let config = from_variable("GATEWAY_NETWORK__DNS_SERVER", text).unwrap();
        assert_eq!(config.network.dns_server.unwrap().to_string(), expected);
    }
}

#[test]
fn passwords_are_not_printed() {
    let environment = variables(&[
        ("AMQP_URL", "amqps://user:hunter2@host/%2f?auth=hunter2"),
        ("DATABASE_URL", "postgres://user:hunter2@host/db?password=hunter2"),
        ("REDIS_URL", "rediss://user:hunter2@host:6380/1"),
        ("GATEWAY_OAUTH__KEYS", "{\"d\":\"hunter2\"}"),
        ("GATEWAY_SECRETS__KEYS", "hunter2"),
        ("GATEWAY_STREAMS__ENDPOINTS", "firehose+wss://user:hunter2@host/?token=hunter2"),
    ]);
    let printed = format!("{:?}", load(None, environment, Table::new()).unwrap());
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("postgres://user:***@host/db"), "{printed}");
}

#[test]
fn a_database_is_named_without_its_secrets() {
    for (url, place) in [
        ("postgres://user:secret@host:1/db?password=secret", "postgres://user:***@host:1/db"),
        ("sqlite://with a space/file.sqlite?mode=ro", "sqlite://with a space/file.sqlite"),
    ] {
        assert_eq!(from_variable("DATABASE_URL", url).unwrap().database.place(), place);
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let defaults: Table = DEFAULT.parse().unwrap();
    for key in Layers::new().unwrap().keys() {
        let (section, name) = key.dotted().split_once('.').map(|(s, n)| (s.to_owned(), n.to_owned())).unwrap();
        let value = match &defaults[&section][&name] {
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            other => other.as_integer().map(|n| n.to_string()).or(other.as_bool().map(|b| b.to_string())).unwrap(),
        };
        let config = from_variable(&key.variable(), &value).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", load(None, NOWHERE, Table::new()).unwrap()));
    }
}

proptest! {
    #[test]
    fn numbers_and_switches_come_through(bytes in 1_024_usize..1_000_000, on: bool, port: u16) {
        let environment = variables(&[
            ("GATEWAY_INGEST__MAX_RECORD_BYTES", &bytes.to_string()),
            ("GATEWAY_GRAPHQL__INTROSPECTION", &on.to_string()),
            ("GATEWAY_HTTP__LISTEN", &format!("[::1]:{port}")),
        ]);
        let config = load(None, environment, Table::new()).unwrap();
        prop_assert_eq!(config.ingest.max_record_bytes, bytes);
        prop_assert_eq!(config.graphql.introspection, on);
        prop_assert_eq!(config.http.listen.port(), port);
    }

    #[test]
    fn texts_come_through_the_environment_as_they_are(path in "[ -!#-&(-~é\u{1F600}]{0,40}") {
        let url = format!("sqlite://{path}");
        prop_assert_eq!(from_variable("DATABASE_URL", &url).unwrap().database.url, url);
    }

    #[test]
    fn texts_come_through_a_file_as_they_are(path in "[ -!#-&(-~é\u{1F600}]{0,40}") {
        let url = format!("sqlite://{path}");
        prop_assert_eq!(from_file(&format!("database.url = '{url}'")).unwrap().database.url, url);
    }

    #[test]
    fn no_environment_is_a_panic(name in "[A-Z_]{0,20}", value in any::<String>()) {
        let _ = from_variable(&format!("GATEWAY_{name}"), &value);
        for key in Layers::new().unwrap().keys() {
            let _ = from_variable(&key.variable(), &value);
        }
    }

    #[test]
    fn no_file_is_a_panic(text in any::<String>()) {
        let _ = from_file(&text);
    }
}
