//! The manifests conform to the Kubernetes API, fit together, and start the program as it wants to be started.

use std::collections::BTreeSet;

use gateway::{
    infra::{atproto::oauth::Keyset, seal::Seal},
    roles::Role,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Namespace, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    configured,
    files::{documents, list, name_of, read, text, under},
    signs_in,
};

const BASE: &str = "deploy/kubernetes/base";
pub(super) const EXAMPLE: &str = "deploy/kubernetes/overlays/example";

fn kustomization(folder: &str) -> Value {
    documents(&format!("{folder}/kustomization.yaml")).remove(0)
}

/// The objects of the base, with its patch applied to the Deployments as kustomize does.
pub(super) fn base() -> Vec<Value> {
    let resources = list(&kustomization(BASE)["resources"]);
    let mut objects: Vec<_> = resources.iter().flat_map(|file| documents(&format!("{BASE}/{file}"))).collect();
    let mut patch = documents(&format!("{BASE}/every-role.yaml")).remove(0);
    patch.as_object_mut().unwrap().remove("metadata");
    for object in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
        merge(object, &patch);
    }
    objects
}

/// A strategic merge as far as the patch needs one: lists of named things are merged by name.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch)) => {
            for item in patch {
                match into.iter_mut().find(|held| held["name"] == item["name"]) {
                    Some(held) => merge(held, item),
                    None => into.push(item.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

/// Reads an object as what it says it is and writes it again: what is lost is unknown to the API, what has changed is of
/// another type, and what is new was required and is missing.
fn differences<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    match serde_json::from_value::<T>(object.clone()) {
        Ok(read) => {
            let mut found = Vec::new();
            compare("", object, &serde_json::to_value(read).unwrap(), &mut found);
            found
        }
        Err(error) => vec![error.to_string()],
    }
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for key in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}.{key}");
                match (ours.get(key), theirs.get(key)) {
                    (Some(ours), Some(theirs)) => compare(&path, ours, theirs, found),
                    (Some(_), None) => found.push(format!("{path} is unknown")),
                    (None, _) => found.push(format!("{path} is missing")),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                compare(&format!("{path}[{at}]"), ours, theirs, found);
            }
        }
        _ if ours != theirs => found.push(format!("{path} is {ours} and not {theirs}")),
        _ => {}
    }
}

fn nonconforming(object: &Value) -> Vec<String> {
    let check = match (text(&object["apiVersion"]), text(&object["kind"])) {
        ("apps/v1", "Deployment") => differences::<Deployment>,
        ("autoscaling/v2", "HorizontalPodAutoscaler") => differences::<HorizontalPodAutoscaler>,
        ("networking.k8s.io/v1", "Ingress") => differences::<Ingress>,
        ("networking.k8s.io/v1", "NetworkPolicy") => differences::<NetworkPolicy>,
        ("policy/v1", "PodDisruptionBudget") => differences::<PodDisruptionBudget>,
        ("v1", "Namespace") => differences::<Namespace>,
        ("v1", "Service") => differences::<Service>,
        ("v1", "ServiceAccount") => differences::<ServiceAccount>,
        (version, kind) => panic!("nobody knows the schema of {version} {kind}"),
    };
    check(object)
}

#[test]
fn manifests_are_of_the_schema() {
    let example = ["namespace.yaml", "ingress.yaml"].map(|file| documents(&format!("{EXAMPLE}/{file}")));
    for object in base().iter().chain(example.iter().flatten()) {
        let found = nonconforming(object);
        assert!(found.is_empty(), "{} {}:\n{}", object["kind"], name_of(object), found.join("\n"));
    }
}

#[test]
fn a_manifest_with_a_mistake_is_found() {
    let deployment = of_kind(&base(), "Deployment")[0].clone();
    let changed = |change: fn(&mut Value)| {
        let mut deployment = deployment.clone();
        change(&mut deployment["spec"]);
        nonconforming(&deployment)
    };
    let unknown = changed(|spec| spec["template"]["spec"]["containers"][0]["readynessProbe"] = Value::Null);
    assert_eq!(unknown, [".spec.template.spec.containers[0].readynessProbe is unknown"]);
    let missing = changed(|spec| drop(spec.as_object_mut().unwrap().remove("selector")));
    assert_eq!(missing, [".spec.selector is missing"]);
    let wrong = changed(|spec| spec["replicas"] = "two".into());
    assert!(wrong.len() == 1 && wrong[0].contains("invalid type"), "{wrong:?}");
}

#[test]
fn every_file_is_part_of_a_kustomization() {
    for folder in [BASE, "deploy/kubernetes/monitoring", EXAMPLE] {
        let kustomization = kustomization(folder);
        let patches =
            kustomization["patches"].as_array().into_iter().flatten().map(|patch| text(&patch["path"]).to_owned());
        let mut named: BTreeSet<String> = list(&kustomization["resources"]).into_iter().chain(patches).collect();
        named.retain(|path| !path.starts_with("../"));
        named.insert("kustomization.yaml".to_owned());
        let there = under(folder, "yaml").into_iter().map(|path| path.rsplit('/').next().unwrap().to_owned());
        assert_eq!(named, there.collect(), "{folder}");
    }
}

#[test]
fn every_role_runs_hardened_and_is_stopped_gently() {
    let objects = base();
    let deployments = of_kind(&objects, "Deployment");
    let config = configured(settings());
    let mut roles = BTreeSet::new();
    for deployment in deployments {
        let role = text(&deployment["metadata"]["labels"]["app.kubernetes.io/component"]);
        roles.insert(role.to_owned());
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["labels"], deployment["spec"]["selector"]["matchLabels"], "{role}");
        let pod = &template["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{role}");
        assert_eq!(pod["enableServiceLinks"], false, "{role}: variables of Services begin with GATEWAY_ too");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{role}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{role}");

        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{role}");
        let gateway = &containers[0];
        assert_eq!(list(&gateway["args"]), ["serve", "--roles", role]);
        for container in pod["initContainers"].as_array().unwrap().iter().chain(containers) {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{role}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{role}");
            assert_eq!(list(&context["capabilities"]["drop"]), ["ALL"], "{role}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{role}");
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{role}");
        }
        for (probe, path) in [("startup", "live"), ("liveness", "live"), ("readiness", "ready")] {
            let probe = &gateway[format!("{probe}Probe")]["httpGet"];
            assert_eq!(text(&probe["path"]), format!("/health/{path}"), "{role}");
            assert_eq!(probe["port"], gateway["ports"][0]["name"], "{role}");
        }
        let port = gateway["ports"][0]["containerPort"].as_u64().unwrap();
        assert!(read("deploy/Dockerfile").contains(&format!("ENV GATEWAY_HTTP__LISTEN=0.0.0.0:{port}\n")), "{port}");
        let pause = gateway["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        // The database is closed within 5 s after the rest.
        assert!(grace >= pause + config.http.shutdown_grace().as_secs() + 5, "{role}: {grace}");
    }
    assert_eq!(roles, Role::ALL.map(|role| role.as_str().to_owned()).into());
}

/// The variables of the secret that the manual makes.
fn secrets() -> BTreeSet<String> {
    let manual = read("deploy/README.md");
    let (_, command) = manual.split_once("create secret generic gateway-secrets").expect("the manual makes the secret");
    let parts = command.split("```").next().unwrap().split("--from-").skip(1);
    parts
        .map(|part| {
            let assigned = part.strip_prefix("literal=").or_else(|| part.strip_prefix("file=")).unwrap();
            assigned.split('=').next().unwrap().to_owned()
        })
        .collect()
}

/// A value as it might be.
fn secret(name: &str) -> String {
    match name {
        "DATABASE_URL" => "postgres://user:secret@host/database".to_owned(),
        "REDIS_URL" => "redis://host".to_owned(),
        "AMQP_URL" => "amqp://host/%2f".to_owned(),
        "GATEWAY_SECRETS__KEYS" => Seal::generate().unwrap(),
        // Of a file, with its last line break.
        "GATEWAY_OAUTH__KEYS" => format!("{}\n", Keyset::generate().unwrap()),
        other => panic!("nobody knows {other}"),
    }
}

/// The variables that a process of the example gets.
fn settings() -> Vec<(String, String)> {
    let mut settings: Vec<_> = secrets().into_iter().map(|name| (name.clone(), secret(&name))).collect();
    for folder in [BASE, EXAMPLE] {
        let generator = &kustomization(folder)["configMapGenerator"][0];
        assert_eq!(generator["name"], "gateway-settings");
        let literals = list(&generator["literals"]);
        settings.extend(literals.iter().map(|literal| {
            let (name, value) = literal.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        }));
    }
    settings
}

#[test]
fn settings_and_secrets_are_found() {
    let objects = base();
    let manual = read("deploy/README.md");
    let listed = read(&format!("{BASE}/kustomization.yaml"));
    for name in secrets() {
        assert!(listed.contains(&name), "the base does not say that it expects {name}");
    }
    for deployment in of_kind(&objects, "Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        let accounts = of_kind(&objects, "ServiceAccount");
        assert!(accounts.iter().any(|account| account["metadata"]["name"] == pod["serviceAccountName"]));
        let containers = ["initContainers", "containers"].map(|kind| pod[kind].as_array().unwrap());
        for container in containers.into_iter().flatten() {
            assert_eq!(container["envFrom"][0]["configMapRef"]["name"], "gateway-settings");
            let secret = text(&container["envFrom"][1]["secretRef"]["name"]);
            assert!(manual.contains(&format!("create secret generic {secret} ")), "{secret}");
            assert_eq!(container["image"], kustomization(EXAMPLE)["images"][0]["name"]);
        }
    }
    // Where they are contained they would be published with the manifests.
    assert!(!objects.iter().any(|object| object["kind"] == "Secret"));
    let config = configured(settings());
    assert!(!config.database.migrate, "the init container does it");
    assert!(config.kv.url.is_some() && config.queue.url.is_some(), "{config:?}");
    assert!(signs_in(&config).is_confidential());
    let host = documents(&format!("{EXAMPLE}/ingress.yaml"))[0]["spec"]["rules"][0]["host"].clone();
    assert_eq!(config.http.public_url.unwrap().host_str(), host.as_str());
}

/// Whether a selector chooses pods with these labels.
fn chooses(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let within = selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
        assert_eq!(expression["operator"], "In");
        list(&expression["values"]).iter().any(|value| labels[text(&expression["key"])] == **value)
    });
    equal && within
}

#[test]
fn objects_that_name_each_other_fit() {
    let objects = base();
    let deployments = of_kind(&objects, "Deployment");
    let named = |name: &Value| *deployments.iter().find(|deployment| deployment["metadata"]["name"] == *name).unwrap();
    let labels = |deployment: &Value| deployment["spec"]["template"]["metadata"]["labels"].clone();
    let config = configured(settings());

    let mut counts = Vec::new();
    for scaler in of_kind(&objects, "HorizontalPodAutoscaler") {
        let scaled = named(&scaler["spec"]["scaleTargetRef"]["name"]);
        assert!(scaled["spec"]["replicas"].is_null(), "{}: two say how many there are", name_of(scaled));
        assert!(scaler["spec"]["minReplicas"].as_u64() >= Some(2), "{}", name_of(scaler));
        counts.push(scaler["spec"]["maxReplicas"].as_u64().unwrap());
        if name_of(scaler) == "gateway-process" {
            assert!(scaler["spec"]["maxReplicas"].as_u64() <= Some(config.queue.partitions.into()), "some would idle");
        }
    }
    counts.extend(deployments.iter().filter_map(|deployment| deployment["spec"]["replicas"].as_u64()));
    assert_eq!(counts.len(), deployments.len());
    // An update starts up to a quarter of them anew before it ends the old ones, unless a Deployment says otherwise.
    assert!(deployments.iter().all(|deployment| deployment["spec"]["strategy"].is_null()));
    let most: u64 = counts.iter().map(|count| count + count.div_ceil(4)).sum();
    // And one that asks whether the database is there.
    let connections = most * u64::from(config.database.max_connections + 1);
    let manual = read("deploy/README.md");
    let allowed: u64 = manual.split("allow ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(connections <= allowed, "the manual has PostgreSQL allow {allowed}, and these are {connections}");

    for budget in of_kind(&objects, "PodDisruptionBudget") {
        let guarded = named(&budget["metadata"]["name"]);
        assert!(chooses(&budget["spec"]["selector"], &labels(guarded)));
        assert!(guarded["spec"]["replicas"].is_null(), "a single process could never be moved");
    }
    let services = of_kind(&objects, "Service");
    let of_service = labels(named(&services[0]["metadata"]["name"]));
    assert_eq!(services[0]["spec"]["selector"], of_service);
    for ingress in documents(&format!("{EXAMPLE}/ingress.yaml")) {
        for path in ingress["spec"]["rules"][0]["http"]["paths"].as_array().unwrap() {
            let backend = &path["backend"]["service"];
            assert_eq!(text(&backend["name"]), name_of(services[0]));
            assert_eq!(backend["port"]["name"], services[0]["spec"]["ports"][0]["name"]);
        }
    }
}

#[test]
fn nothing_is_reachable_that_is_not_named() {
    let objects = base();
    let policies = of_kind(&objects, "NetworkPolicy");
    let governing = |labels: &Value, direction: &str| -> Vec<String> {
        let governs = |policy: &&&Value| {
            let types = list(&policy["spec"]["policyTypes"]);
            chooses(&policy["spec"]["podSelector"], labels) && types.iter().any(|kind| kind == direction)
        };
        policies.iter().filter(governs).map(|policy| name_of(policy).to_owned()).collect()
    };
    for deployment in of_kind(&objects, "Deployment") {
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let mut inward = vec!["gateway-deny", "gateway-metrics"];
        if labels["app.kubernetes.io/component"] == "api" {
            inward.push("gateway-requests");
        }
        // The role api too: it signs people in at their servers, and asks for profiles.
        let outward = ["gateway-data", "gateway-deny", "gateway-network"];
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(governing(labels, "Ingress")), inward, "{}", name_of(deployment));
        assert_eq!(sorted(governing(labels, "Egress")), outward, "{}", name_of(deployment));
    }
    let named = |name: &str| &policies.iter().find(|policy| name_of(policy) == name).unwrap()["spec"];
    assert!(named("gateway-deny")["ingress"].is_null() && named("gateway-deny")["egress"].is_null());
    let network = &named("gateway-network")["egress"];
    assert_eq!(network[0]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(network[0]["ports"][0]["port"], 443);
    for to in network[0]["to"].as_array().unwrap() {
        assert!(!list(&to["ipBlock"]["except"]).is_empty(), "private networks are none of its business");
    }
}
