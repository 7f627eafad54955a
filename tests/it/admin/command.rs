//! The same on the command line.

use entities::{identity, sets::HandleStatus};
use gateway::domain::account::{SignedIn, sign_in};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::Value;

use super::event;
use crate::support::{app::TestApp, database::on_each_database, process::Program, records::did};

/// What a command printed, and how it ended.
async fn run(program: &Program, arguments: &[&str]) -> (Option<i32>, String, String) {
    let ended = program.run(arguments).await;
    let [printed, said] = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (ended.status.code(), printed, said)
}

async fn lines(program: &Program, arguments: &[&str]) -> Vec<Value> {
    let (code, printed, said) = run(program, arguments).await;
    assert_eq!(code, Some(0), "{said}");
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_operator_lists_counts_tries_and_gives_up() {
    on_each_database(async |test| {
        let program = Program::over(&test.url);
        let bad = (0..30).map(|person| event(person, 1, None));
        program.replay(&program.file(bad.chain(["nonsense".to_owned()]))).await;
        let person = did(9, 3);
        for (arguments, count) in [
            (&["failures", "list"][..], 31),
            (&["failures", "list", "--limit", "25"], 25),
            (&["failures", "list", "--stage", "map"], 30),
            (&["failures", "list", "--stage", "map,receive"], 31),
            (&["failures", "list", "--dead"], 0),
            (&["failures", "list", "--code", "EVENT_NAME_MISSING", "--did", &person], 1),
            (&["failures", "list", "--text", "nonsense"], 1),
            (&["failures", "list", "--since", "2020-01-01T00:00:00Z"], 31),
            (&["failures", "list", "--until", "2020-01-01T00:00:00Z"], 0),
            (&["failures", "list", "--state", "resolved,discarded"], 0),
        ] {
            assert_eq!(lines(&program, arguments).await.len(), count, "{arguments:?}");
        }
        let counts = lines(&program, &["failures", "count"]).await;
        assert_eq!(
            (counts.len(), &counts[0]["code"], &counts[0]["count"]),
            (2, &"EVENT_NAME_MISSING".into(), &30.into())
        );

        // Nothing is changed by looking.
        let (code, printed, _) = run(&program, &["failures", "retry", "--stage", "map", "--dry-run"]).await;
        assert_eq!((code, printed.lines().count(), printed.lines().last()), (Some(0), 31, Some("would be 30")));
        let (code, printed, _) = run(&program, &["failures", "retry", "--did", &person]).await;
        assert_eq!((code, printed.as_str()), (Some(2), "resolved 0\nparked 1\n"));
        let arguments = ["failures", "discard", "--did", &person, "--reason", "an application that is gone"];
        assert_eq!(run(&program, &arguments).await.1, "discarded 1\n");
        let discarded = lines(&program, &["failures", "list", "--state", "discarded", "--history"]).await;
        let history = discarded[0]["history"].as_array().unwrap();
        assert_eq!((discarded.len(), history.len(), &discarded[0]["attempts"]), (1, 3, &2.into()));
        assert_eq!(history[2]["reason"], "an application that is gone");
        assert_eq!((&history[1]["decidedBy"], &history[2]["decidedBy"]), (&Value::Null, &"operator".into()));

        for command in ["retry", "discard"] {
            let (code, _, said) = run(&program, &["failures", command]).await;
            assert_eq!((code, said.contains("--all")), (Some(1), true), "{said}");
        }
        let (code, _, said) = run(&program, &["failures", "list", "--stage", "mapp"]).await;
        assert_eq!((code, said.contains("'map'")), (Some(2), true), "{said}");
        assert_eq!(run(&program, &["failures", "discard", "--all"]).await.1, "discarded 30\n");
        assert_eq!(run(&program, &["failures", "discard", "--all"]).await.1, "discarded 0\n");
    })
    .await;
}

#[tokio::test]
async fn an_operator_makes_administrators() {
    on_each_database(async |test| {
        let program = Program::over(&test.url);
        let (code, _, said) = run(&program, &["keys", "create", "nobody"]).await;
        assert_eq!((code, said.contains("--source")), (Some(2), true), "{said}");
        assert_eq!(run(&program, &["keys", "create", "an administrator", "--admin"]).await.0, Some(0));
        assert_eq!(run(&program, &["keys", "create", "a processor", "--source", "bluesky"]).await.0, Some(0));
        let keys = lines(&program, &["keys", "list"]).await;
        let admins: Vec<&Value> = keys.iter().map(|key| &key["isAdmin"]).collect();
        assert_eq!(admins, [true, false]);
    })
    .await;
}

#[tokio::test]
async fn an_operator_says_who_administers() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let [ann, bob, eve] = [1, 2, 3].map(|person| did(9, person));
        for (member, handle) in [(&ann, "ann.example.com"), (&bob, "bob.example.com")] {
            let pds = "https://pds.example.com".parse().unwrap();
            let shown = SignedIn { did: member.clone(), handle: None, pds, scopes: Vec::new() };
            sign_in(&app, &shown).await.unwrap();
            let verified = app.db.transact(|tx| async move {
                let rows = identity::Entity::update_many()
                    .col_expr(identity::Column::HandleStatus, Expr::value(HandleStatus::Verified.as_str()))
                    .col_expr(identity::Column::Handle, Expr::value(handle));
                rows.filter(identity::Column::Did.eq(member)).exec(&*tx).await?;
                Ok(())
            });
            verified.await.unwrap();
        }
        drop(app);
        let program = Program::over(&test.url)
            .with("GATEWAY_ACCESS__ADMINISTRATORS", &format!("{ann},other={bob}"))
            .with("GATEWAY_ACCESS__OPERATORS", &eve);
        let list = async |tenant: &str| {
            let printed = lines(&program, &["roles", "list", "--tenant", tenant]).await;
            let shown = |holder: &Value| {
                let text = |key: &str| holder[key].as_str().unwrap_or("nobody").to_owned();
                format!("{} {} {} {}", text("role"), text("from"), text("did"), text("handle"))
            };
            printed.iter().map(shown).collect::<Vec<_>>()
        };
        let configured =
            [format!("admin configuration {ann} ann.example.com"), format!("operator configuration {eve} nobody")];
        assert_eq!(list("default").await, configured);

        // By handle, however it is written, and said twice.
        for _ in 0..2 {
            let (code, printed, said) = run(&program, &["roles", "grant", "@Bob.example.com"]).await;
            assert_eq!((code, printed), (Some(0), format!("granted to {bob} bob.example.com\n")), "{said}");
        }
        let granted = format!("admin grant {bob} bob.example.com");
        assert_eq!(list("default").await, [granted, configured[0].clone(), configured[1].clone()]);
        let (code, printed, _) = run(&program, &["roles", "revoke", &bob]).await;
        assert_eq!((code, printed), (Some(0), format!("revoked from {bob} bob.example.com\n")));
        assert_eq!(list("default").await, configured);

        // In another tenant, nobody of this one is a member.
        assert_eq!(run(&program, &["tenants", "create", "other"]).await.0, Some(0));
        assert_eq!(list("other").await, [format!("admin configuration {bob} bob.example.com"), configured[1].clone()]);
        for (arguments, expected) in [
            (&["roles", "grant", &bob, "--tenant", "other"][..], "member"),
            (&["roles", "grant", &eve], "member"),
            (&["roles", "grant", "nobody.example.com"], "member"),
            (&["roles", "grant", &bob, "--tenant", "nowhere"], "tenant"),
            (&["roles", "list", "--tenant", "nowhere"], "tenant"),
            (&["roles", "grant", "no handle"], "handle"),
        ] {
            let (code, _, said) = run(&program, arguments).await;
            assert_eq!((code, said.contains(expected)), (Some(1), true), "{arguments:?}: {said}");
        }
        assert_eq!(list("default").await, configured);
    })
    .await;
}
