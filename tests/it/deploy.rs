//! What stands in `deploy/` fits the program: its settings, roles, paths and metrics. No image is built and no cluster
//! is asked: manifests are held against the types of the API.

mod files;
mod kubernetes;
mod paths;
mod watching;

use std::collections::{BTreeMap, BTreeSet};

use gateway::{
    config::{self, Config},
    infra::{
        atproto::oauth::{Client, ClientSettings, Keyset},
        seal::{Seal, SealSettings},
    },
    roles::Role,
};
use serde_json::Value;

use self::files::{documents, list, read, text};
use crate::support::{
    database::sqlite,
    process::{Program, kill},
};

const COMPOSE: &str = "deploy/compose.yaml";

/// What the program makes of these variables; it has to understand each of them.
fn configured(variables: impl IntoIterator<Item = (String, String)>) -> Config {
    let variables: Vec<_> = variables.into_iter().collect();
    for (name, _) in &variables {
        let known = ["AMQP_URL", "DATABASE_URL", "REDIS_URL"].contains(&name.as_str()) || name.starts_with("GATEWAY_");
        assert!(known, "{name} is no setting");
    }
    config::load(None, variables, toml::Table::new()).unwrap()
}

fn compose() -> Value {
    documents(COMPOSE).remove(0)
}

/// The names of the `${NAME…}` in a text, with what follows each.
fn interpolations(text: &str) -> Vec<(String, String)> {
    let inner = text.split("${").skip(1).map(|tail| tail.split('}').next().unwrap_or_default());
    inner
        .map(|inner| {
            let end = inner.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
            let (name, rest) = inner.split_at(end);
            (name.to_owned(), rest.to_owned())
        })
        .collect()
}

/// The text with a word for each interpolation, or nothing for one that may be empty. Of what is given, that.
fn interpolated(text: &str, given: &[(&str, String)]) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inner, rest) = part.split_once('}').unwrap();
        let name = inner.split(':').next().unwrap();
        let word = if inner.ends_with(":-") { "" } else { "secret" };
        result += given.iter().find(|(known, _)| *known == name).map_or(word, |(_, value)| value);
        result += rest;
    }
    result
}

/// What a process that is configured so is to the servers of people who sign in. It has to be able to keep what they give.
fn signs_in(config: &Config) -> Client {
    assert!(config.database.file().is_none(), "beside a file a key would be made");
    let seal = Seal::new(SealSettings { keys: config.secrets.keys.clone(), file: None }).unwrap();
    seal.close("a session", b"tokens").unwrap();
    let settings = ClientSettings {
        public_url: config.http.public_url.clone(),
        keys: config.oauth.keys.clone(),
        name: config.oauth.client_name.clone(),
        scope: "atproto".to_owned(),
    };
    Client::new(&settings).unwrap()
}

#[test]
fn compose_runs_every_role_with_settings_that_it_knows() {
    let compose = compose();
    for role in Role::ALL {
        let service = &compose["services"][role.as_str()];
        assert_eq!(list(&service["command"]), ["serve", "--roles", role.as_str()]);
        let variables = service["environment"].as_object().unwrap();
        let set = |given: &[(&str, String)]| {
            configured(variables.iter().map(|(name, value)| (name.clone(), interpolated(text(value), given))))
        };
        let mut given = vec![("SECRETS_KEYS", Seal::generate().unwrap())];
        let config = set(&given);
        assert!(!signs_in(&config).is_confidential(), "only on this machine");
        given.push(("PUBLIC_URL", "https://gateway.example.org".to_owned()));
        given.push(("OAUTH_KEYS", Keyset::generate().unwrap().to_string()));
        assert!(signs_in(&set(&given)).is_confidential());
        assert!(config.database.url.starts_with("postgres://gateway:secret@postgres:"), "{}", config.database.url);
        assert!(config.kv.url.is_some() && config.queue.url.is_some(), "{config:?}");
        assert!(!config.database.migrate, "that is the affair of the service migrate");
        // What runs has to have ended before it is killed: the database is closed within 5 s after the rest.
        let grace: u64 = text(&service["stop_grace_period"]).trim_end_matches('s').parse().unwrap();
        assert!(grace >= config.http.shutdown_grace().as_secs() + 5, "{grace}");
    }
    assert_eq!(list(&compose["services"]["migrate"]["command"]), ["migrate"]);
}

#[test]
fn the_manual_starts_every_role_from_nothing() {
    let manual = read("README.md");
    let (_, section) = manual.split_once("## As several processes").unwrap();
    let lines: Vec<_> = section.split("```").nth(1).unwrap().lines().collect();
    let mut variables = BTreeMap::new();
    for word in lines.iter().filter_map(|line| line.strip_prefix("export ")).flat_map(str::split_whitespace) {
        if let Some((name, value)) = word.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    assert_eq!(variables["GATEWAY_SECRETS__KEYS"], "$(openmeet-gateway", "a command prints it");
    variables.insert("GATEWAY_SECRETS__KEYS".to_owned(), Seal::generate().unwrap());
    let config = configured(variables);
    assert!(!signs_in(&config).is_confidential());
    assert!(config.kv.url.is_some() && config.queue.url.is_some(), "{config:?}");

    let at = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    let made = lines[at("createdb")].rsplit(' ').next().unwrap();
    assert!(config.database.url.ends_with(&format!("/{made}")), "{made} is another database");
    let run: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("openmeet-gateway --roles ")?.split_whitespace().next())
        .collect();
    assert_eq!(run, Role::ALL.map(Role::as_str).into());
    assert!(
        at("createdb") < at("openmeet-gateway migrate")
            && at("openmeet-gateway migrate") < at("openmeet-gateway --roles")
    );
}

#[test]
fn compose_keeps_what_redis_holds() {
    let compose = compose();
    let redis = &compose["services"]["redis"];
    let command = list(&redis["command"]);
    let set = |name: &str| command.iter().position(|word| word == name).map(|at| command[at + 1].as_str());
    assert_eq!(set("--appendonly"), Some("yes"), "sessions would end with a restart");
    assert_eq!(set("--maxmemory-policy"), Some("noeviction"), "sessions would make room for profiles");
    assert!(list(&redis["volumes"]).iter().any(|volume| volume == "redis:/data") && redis["tmpfs"].is_null());
    let manual = read("deploy/README.md");
    assert!(["`appendonly yes`", "`maxmemory-policy noeviction`"].iter().all(|setting| manual.contains(setting)));
}

#[test]
fn compose_keeps_to_itself() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in list(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is reached from elsewhere: {port}");
        }
        let image = text(&service["image"]);
        let is_ours = service["build"].is_object();
        assert!(is_ours || image.contains(':') && !image.ends_with(":latest"), "{name}: any version of {image}");
        assert!(is_ours || service["healthcheck"]["test"].is_array(), "{name} has no health check");
        for other in service["depends_on"].as_object().into_iter().flatten() {
            assert!(compose["services"][other.0].is_object(), "{name} waits for {}", other.0);
        }
        for network in list(&service["networks"]) {
            assert!(compose["networks"].get(&network).is_some(), "{name}: network {network}");
        }
        for volume in list(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            let exists = match from.strip_prefix("./") {
                Some(path) => files::path(&format!("deploy/{path}")).exists(),
                None => compose["volumes"].get(from).is_some(),
            };
            assert!(exists, "{name}: volume {volume}");
        }
    }
    assert_eq!(compose["networks"]["inside"]["internal"], true);
}

#[test]
fn compose_has_no_secret_of_its_own() {
    let example = read("deploy/.env.example");
    let asked = interpolations(&read(COMPOSE));
    assert!(asked.iter().any(|(name, _)| name == "SECRETS_KEYS"));
    for (name, rest) in &asked {
        let is_needed = name.contains("PASSWORD") || name == "SECRETS_KEYS";
        assert!(rest.starts_with(if is_needed { ":?" } else { ":-" }), "{name}: {rest}");
        let line = if is_needed { format!("{name}=") } else { format!("# {name}=") };
        let fits = |known: &str| if is_needed { known == line } else { known.starts_with(&line) };
        assert!(example.lines().any(fits), "{name} is not in .env.example, or has a value");
    }
    let ignored = read(".gitignore");
    assert!(ignored.lines().any(|line| line == ".env"), "a file of passwords could be committed");
}

#[test]
fn the_image_is_built_from_what_the_program_needs() {
    let dockerfile = read("deploy/Dockerfile");
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "it is built with another Rust than {rust}");
    let user = dockerfile.lines().rev().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");

    let ignored = read(".dockerignore");
    let kept: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches"].into_iter().chain(members) {
        assert!(kept.contains(&needed), "{needed} does not reach the build");
    }
    for name in kept {
        assert!(files::path(name).exists(), "{name}");
    }
    assert_eq!(ignored.lines().find(|line| !line.starts_with('#')), Some("*"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_can_tell_whether_it_is_healthy() {
    assert!(read("deploy/Dockerfile").contains(r#"CMD ["/usr/local/bin/openmeet-gateway", "health"]"#));
    let test = sqlite().await;
    let (child, address) = Program::over(&test.url).serve_api().await;
    let port = address.rsplit(':').next().unwrap();
    // Within a container it listens on every address.
    let check = Program::over(&test.url).with("GATEWAY_HTTP__LISTEN", &format!("0.0.0.0:{port}"));
    let healthy = check.run(&["health"]).await;
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    kill(child).await;
    let gone = check.run(&["health"]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("failed to use the gateway"));
    test.discard().await;
}

#[test]
fn every_yaml_and_json_file_can_be_read() {
    let yaml = files::under("deploy", "yaml");
    assert!(yaml.len() > 10, "{yaml:?}");
    for path in yaml {
        assert!(documents(&path).iter().all(Value::is_object), "{path}");
    }
    for path in files::under("deploy", "json") {
        let document: Value = serde_json::from_str(&read(&path)).unwrap();
        assert!(document.is_object(), "{path}");
    }
}
