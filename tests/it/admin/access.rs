//! Who may use which field: every field of the schema, used by everybody, against what `@access` says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use entities::sets::UserRole;
use gateway::{
    api::http::router,
    app::App,
    domain::{
        account::{self, SignedIn, care},
        actor::Actor,
        key::{self, Named, SOURCES, Wanted},
        session::{self, Kind},
        tenant::{self, Tenant},
    },
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{Bench, event};
use crate::support::{
    blueprint::{Blueprint, innermost},
    database::on_each_database,
    records::did,
};

/// Arguments of the root fields that need some, and of others: what is named is missing, so that nothing is done; or it is
/// the first event, so that there is something to read.
const ARGUMENTS: [(&str, &str); 27] = [
    ("Query.blueskyProfile", r#"(actor: { did: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" })"#),
    ("Query.blueskyProfiles", r#"(actors: [{ did: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }])"#),
    ("Query.node", r#"(id: "ZXZlbnQ6MQ")"#),
    ("Query.nodes", r#"(ids: ["ZXZlbnQ6MQ"])"#),
    ("Query.event", r#"(by: { id: "ZXZlbnQ6MQ" })"#),
    ("Query.rsvp", r#"(by: { id: "cnN2cDox" })"#),
    ("Query.shadowAccount", r#"(by: { id: "YWNjb3VudDox" })"#),
    ("Admin.ingestFailure", r#"(id: "ZmFpbHVyZTox")"#),
    ("Mutation.retryIngestFailures", "(input: { select: { ids: [] } })"),
    ("Mutation.discardIngestFailures", r#"(input: { select: { ids: [] }, reason: "" })"#),
    ("Mutation.createServiceKey", r#"(input: { name: "" })"#),
    ("Mutation.revokeServiceKey", r#"(input: { serviceKeyId: "a2V5Ojk5OQ" })"#),
    ("Mutation.ingestEvents", r#"(input: { events: [{ name: "", source: { type: WEB, id: "x" } }] })"#),
    (
        "Mutation.ingestRsvps",
        r#"(input: { rsvps: [{ eventSourceId: "x", eventSourceType: WEB, userDid: "x", status: MAYBE }] })"#,
    ),
    ("Mutation.deleteIngestedEvent", r#"(input: { sourceType: WEB, sourceId: "x" })"#),
    ("Mutation.deleteIngestedRsvp", r#"(input: { sourceType: WEB, sourceId: "x" })"#),
    ("Mutation.createShadowAccount", r#"(input: { did: "did:web:author.example.com" })"#),
    ("Mutation.claimShadowAccount", r#"(input: { shadowAccountId: "YWNjb3VudDo5OTk" })"#),
    ("Mutation.claimShadowAccountFor", r#"(input: { shadowAccountId: "YWNjb3VudDo5OTk", userId: "YWNjb3VudDo5OTg" })"#),
    ("Mutation.mergeShadowAccounts", r#"(input: { shadowAccountId: "YWNjb3VudDo5OTk", intoId: "YWNjb3VudDo5OTg" })"#),
    ("Mutation.deleteShadowAccount", r#"(input: { shadowAccountId: "YWNjb3VudDo5OTk" })"#),
    ("Mutation.setMemberRole", r#"(input: { userId: "YWNjb3VudDo5OTk", role: ADMIN })"#),
    ("Mutation.revokeSession", r#"(input: { sessionId: "c2Vzc2lvbjo5OTk" })"#),
    ("Mutation.updateSyncPreferences", "(input: {})"),
    ("Mutation.disconnectBluesky", ""),
    ("Subscription.eventIngested", ""),
    ("Subscription.ingestFailureChanged", ""),
];

/// How deep objects are asked for within a root field.
const DEPTH: u32 = 3;

/// The schema with arguments for its fields, so that they can be used.
struct Uses {
    schema: Blueprint,
    arguments: BTreeMap<&'static str, &'static str>,
}

impl Uses {
    fn read() -> Self {
        Self { schema: Blueprint::read(), arguments: ARGUMENTS.into() }
    }

    /// The root fields with whom each is for: `ADMIN`, `USER`, or nothing for everybody.
    fn roots(&self) -> Vec<(String, String)> {
        let mut roots = Vec::new();
        for root in ["Query", "Mutation", "Subscription"] {
            for field in self.schema.fields(root) {
                let access = field.directives.iter().find(|directive| directive.node.name.node == "access");
                let scopes = access.and_then(|access| access.node.get_argument("scopes"));
                let scopes = scopes.map(|scopes| scopes.node.to_string()).unwrap_or_default();
                roots.push((format!("{root}.{}", field.name.node), scopes.trim_matches(['[', ']']).to_owned()));
            }
        }
        // It takes away what is configured for whoever calls it.
        roots.sort_by_key(|(name, _)| name == "Mutation.disconnectBluesky");
        roots
    }

    /// The use of one field with everything below it.
    fn call(&self, path: &str, depth: u32) -> String {
        let field = self.schema.field(path).unwrap();
        let arguments = self.arguments.get(path).copied().unwrap_or_default();
        let needed = field
            .arguments
            .iter()
            .any(|argument| !argument.node.ty.node.nullable && argument.node.default_value.is_none());
        assert!(!needed || !arguments.is_empty(), "{path} is new: say here with which arguments it is used");
        format!("{}{arguments} {}", field.name.node, self.select(innermost(&field.ty.node), depth))
    }

    /// Everything of a type, as far down as `depth`.
    fn select(&self, name: &str, depth: u32) -> String {
        match self.schema.objects(name).as_slice() {
            [] => String::new(),
            [object] if *object == name => format!("{{ __typename {} }}", self.members(name, depth, "")),
            objects => {
                // By names of their own: two types may have fields of one name that differ.
                let parts = objects.iter().map(|object| {
                    format!("... on {object} {{ __typename {} }}", self.members(object, depth, &format!("{object}_")))
                });
                format!("{{ __typename {} }}", parts.collect::<Vec<_>>().concat())
            }
        }
    }

    fn members(&self, name: &str, depth: u32, prefix: &str) -> String {
        let mut text = String::new();
        for field in self.schema.fields(name) {
            let inner = innermost(&field.ty.node);
            let is_leaf = self.schema.objects(inner).is_empty();
            // A payload leads back to the root.
            if inner == "Query" || (!is_leaf && depth == 0) {
                continue;
            }
            if !prefix.is_empty() {
                write!(text, "{prefix}{}: ", field.name.node).unwrap();
            }
            text.push_str(&self.call(&format!("{name}.{}", field.name.node), depth.saturating_sub(1)));
            text.push(' ');
        }
        text
    }
}

/// Somebody who uses fields.
struct Caller {
    name: &'static str,
    shown: Option<String>,
    /// The tenant that is named.
    tenant: &'static str,
    /// What they may use of what is for everybody, for those who are signed in, and for administrators.
    may: [bool; 3],
}

/// The first refusal in an answer, wherever it is.
async fn refusal(doors: &Router, caller: &Caller, root: &str, document: &str) -> Option<String> {
    let accept = if root == "Subscription" { "text/event-stream" } else { "application/json" };
    let mut request = Request::post("/graphql").header("content-type", "application/json").header("accept", accept);
    request = request.header("x-tenant-id", caller.tenant);
    if let Some(shown) = &caller.shown {
        request = request.header("authorization", format!("Bearer {shown}"));
    }
    let body = Body::from(json!({ "query": document }).to_string());
    let response = doors.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let text = String::from_utf8(to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec()).unwrap();
    let text = text.strip_prefix("event: next\ndata: ").and_then(|text| text.split('\n').next()).unwrap_or(&text);
    let answer: Value = serde_json::from_str(text).unwrap();
    let codes = answer["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| error["extensions"]["code"].as_str().unwrap_or_default().to_owned());
    let codes: Vec<String> = codes.collect();
    // Whoever may see a profile is told that nobody can be asked for it.
    let known = ["UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "BAD_USER_INPUT", "UPSTREAM_UNAVAILABLE"];
    assert!(codes.iter().all(|code| known.contains(&code.as_str())), "{}: {answer:#} to {document}", caller.name);
    codes.into_iter().find(|code| matches!(code.as_str(), "UNAUTHENTICATED" | "FORBIDDEN"))
}

/// A person's token, after signing in where the program stands.
async fn token(app: &App, person: usize) -> (i64, String) {
    let signed_in = SignedIn {
        did: did(9, person),
        handle: None,
        pds: "https://pds.example.com".parse().unwrap(),
        scopes: Vec::new(),
    };
    let user = account::sign_in(app, &signed_in).await.unwrap();
    (user.id, session::open(app, user.id, Kind::Bearer, None).await.unwrap().token)
}

/// The program with everybody who is tried.
async fn everybody(bench: &Bench) -> (Router, Vec<Caller>) {
    let mut app = bench.test.app.clone();
    let mut config = (*app.config).clone();
    config.access.operators = vec![did(9, 22)];
    config.access.administrators = vec![format!("other={}", did(9, 23)), did(9, 24)];
    (config.graphql.max_cost, config.graphql.max_depth, config.graphql.max_aliases) = (1 << 30, 60, 100_000);
    (config.graphql.max_tokens, config.http.max_body_bytes) = (1_000_000, 1 << 24);
    app.config = config.into();
    tenant::create(&app, "other", "Other").await.unwrap();
    let other = app.of(Tenant::by_slug(app.db.read(), "other").await.unwrap().unwrap());
    let (_, member) = token(&app, 20).await;
    let (granted, granted_token) = token(&app, 21).await;
    care::set_role(&app, &Actor::Operator, granted, UserRole::Admin).await.unwrap();
    let (_, operator) = token(&app, 22).await;
    let (_, their_admin) = token(&other, 23).await;
    let (_, configured) = token(&app, 24).await;
    // Whoever administers one tenant is a member of another one as anybody.
    let (_, ours_there) = token(&other, 24).await;
    let (_, their_member) = token(&other, 25).await;
    let service = bench.test.key(&SOURCES, false).await;
    let caller = |name, shown, tenant, may| Caller { name, shown, tenant, may };
    let callers = vec![
        caller("anonymous", None, "default", [true, false, false]),
        caller("service", Some(service), "default", [true, false, false]),
        caller("admin key", Some(bench.key.clone()), "default", [true, false, true]),
        caller("member", Some(member), "default", [true, true, false]),
        caller("granted admin", Some(granted_token), "default", [true; 3]),
        caller("configured admin", Some(configured), "default", [true; 3]),
        caller("operator", Some(operator), "default", [true; 3]),
        caller("other tenant's member", Some(their_member.clone()), "default", [false; 3]),
        caller("other tenant's admin", Some(their_admin), "default", [false; 3]),
        caller("other tenant's member at home", Some(their_member), "other", [true, true, false]),
        caller("our admin as their member", Some(ours_there), "other", [true, true, false]),
    ];
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    (router(&app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap(), callers)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_for_whom_the_schema_says() {
    let schema = Uses::read();
    let roots = schema.roots();
    let named: BTreeSet<&str> = roots.iter().map(|(name, _)| name.as_str()).collect();
    for (path, _) in ARGUMENTS {
        assert!(named.contains(path) || path.starts_with("Admin."), "{path} is no field");
    }
    // Each mutation changes something, and so is for somebody.
    let open = roots.iter().filter(|(name, scopes)| name.starts_with("Mutation.") && scopes.is_empty());
    assert_eq!(open.collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.test.submit(&[event(1, 1, Some("readable")), event(2, 2, None)]).await;
        let (doors, callers) = everybody(&bench).await;
        for caller in &callers {
            for (path, scopes) in &roots {
                let may = match scopes.as_str() {
                    "" => caller.may[0],
                    "USER" => caller.may[1],
                    "ADMIN" => caller.may[2],
                    other => panic!("{other} is new: say here whom it is for"),
                };
                let root = path.split_once('.').unwrap().0;
                // A subscription that may be used does not end by itself.
                if root == "Subscription" && may {
                    continue;
                }
                let document = format!("{} {{ {} }}", root.to_ascii_lowercase(), schema.call(path, DEPTH));
                let refused = refusal(&doors, caller, root, &document).await;
                let expected = match (may, &caller.shown) {
                    (true, _) => None,
                    (false, None) => Some("UNAUTHENTICATED".to_owned()),
                    (false, Some(_)) => Some("FORBIDDEN".to_owned()),
                };
                assert_eq!(refused, expected, "{path} by {}", caller.name);
            }
        }
        let rows = key::list(&bench.test.app, &Actor::Operator).await.unwrap();
        assert_eq!(rows.len(), 2, "nobody made a key");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_open_is_refused_whatever_is_asked() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let document = "{ serviceInfo { version } }";
        let revoked = bench.test.key(&SOURCES, true).await;
        let (status, _) = bench.answer(Some(&revoked), document, &json!({})).await;
        assert_eq!(status, StatusCode::OK);
        key::revoke(&bench.test.app, &Actor::Operator, Named::Text(&revoked)).await.unwrap();
        let good = &bench.key;
        let mut forged = good.clone();
        forged.replace_range(good.len() - 1.., if good.ends_with('a') { "b" } else { "a" });
        let shown =
            [&format!("Bearer {revoked}"), &format!("Bearer {forged}"), "Bearer", "", "Basic eDp5", good.as_str()];
        for shown in shown {
            let (status, text) = bench.send(Some(shown), "application/json", document, &json!({})).await;
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{shown}: {answer}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{shown}");
            assert!(answer.get("data").is_none() && !text.contains("omk_"), "{answer}");
        }
        let (_, text) = bench.send(Some(&format!("bearer  {good}")), "application/json", document, &json!({})).await;
        assert!(text.contains("version"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_administrator_of_another_tenant_has_its_keys_and_nothing_else() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let app = &bench.test.app;
        tenant::create(app, "other", "Other").await.unwrap();
        let wanted =
            Wanted { name: "theirs".into(), tenants: vec!["other".into()], sources: Vec::new(), is_admin: true };
        let theirs = key::create(app, &Actor::Operator, &wanted).await.unwrap();
        let ask =
            async |document: &str, variables: Value| bench.answer(Some(&theirs.text), document, &variables).await.1;
        let keys = ask("{ admin { serviceKeys { totalCount nodes { id name } } } }", json!({})).await;
        let keys = &keys["data"]["admin"]["serviceKeys"];
        assert_eq!((&keys["totalCount"], &keys["nodes"][0]["name"]), (&json!(1), &json!("theirs")));
        for document in [
            "{ admin { ingestFailures { totalCount } } }",
            "{ admin { ingestFailureCounts { count } } }",
            "mutation { retryIngestFailures(input: { select: { ids: [] } }) { matchedCount } }",
        ] {
            let answer = ask(document, json!({})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
        }
        // A key of the first tenant is not there for it.
        let ours = bench.ask("{ admin { serviceKeys { nodes { id } } } }", json!({})).await;
        let id = &ours["admin"]["serviceKeys"]["nodes"][0]["id"];
        let revoke = "mutation ($id: ID!) {
            revokeServiceKey(input: { serviceKeyId: $id }) { serviceKey { id } userErrors { code } }
        }";
        let answer = ask(revoke, json!({ "id": id })).await;
        assert_eq!(answer["data"]["revokeServiceKey"]["userErrors"][0]["code"], "NOT_FOUND", "{answer}");
        assert_eq!(
            ask("query ($id: ID!) { node(id: $id) { id } }", json!({ "id": id })).await["data"]["node"],
            json!(null)
        );
        assert!(key::verify(app, &bench.key).await.unwrap().is_some());
    })
    .await;
}
