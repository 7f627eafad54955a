//! The one way in.

use std::sync::Arc;

use entities::{
    audit_entry, change,
    sets::{AuditAction, UserRole},
    user,
};
use futures_util::future::join_all;
use gateway::domain::account::{SignedIn, sign_in};
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::json;

use super::signed_in;
use crate::support::{
    app::TestApp,
    database::on_each_database,
    records::{BEGINNING, EVENT, cid_of, commit, did, tid},
};

/// An event of a person, as a stream tells it.
fn event(person: usize, number: i64) -> String {
    let record = json!({ "$type": EVENT, "createdAt": "2026-01-01T00:00:00Z", "name": format!("event {number}") });
    let (at, cid) = (BEGINNING + number, cid_of(&record.to_string()));
    commit(&did(7, person), at, &tid(at, 1), EVENT, &format!("one{number}"), Some((&cid, &record)))
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_sign_ins_at_once_make_one_account() {
    on_each_database(async |test| {
        // Two processes.
        let apps = [TestApp::open(test).await, TestApp::open(test).await].map(Arc::new);
        let sign_ins = (0..50).map(|number| {
            let gateway = Arc::clone(&apps[number % 2]);
            tokio::spawn(async move {
                // The network's records come in meanwhile, and give the same person a shadow.
                if number == 25 {
                    gateway.submit(&[event(1, 1)]).await;
                }
                sign_in(&gateway.app, &signed_in(1)).await.unwrap()
            })
        });
        let users: Vec<user::Model> = join_all(sign_ins).await.into_iter().map(Result::unwrap).collect();
        assert!(users.iter().all(|user| user.id == users[0].id), "{users:?}");
        let rows = user::Entity::find().all(test.db.read()).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert!(!rows[0].is_shadow_account);
        assert_eq!(rows[0].role, Some(UserRole::Member));
        let noted = audit_entry::Entity::find().all(test.db.read()).await.unwrap();
        assert_eq!(noted.len(), 1, "{noted:?}");
    })
    .await;
}

#[tokio::test]
async fn a_shadow_becomes_a_member_where_it_stands() {
    on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        gateway.submit(&[event(1, 1), event(1, 2), event(2, 3)]).await;
        let before = user::Entity::find().all(test.db.read()).await.unwrap();
        let changes = change::Entity::find().count(test.db.read()).await.unwrap();
        let member = sign_in(&gateway.app, &signed_in(1)).await.unwrap();
        let shadow = before.iter().find(|row| row.did.as_deref() == Some(&did(7, 1))).unwrap();
        assert_eq!(member.id, shadow.id);
        assert_eq!(member.created_at, shadow.created_at);
        assert!(!member.is_shadow_account && member.role == Some(UserRole::Member));
        let bluesky = member.preferences_bluesky.clone().unwrap();
        assert!(bluesky.connected && !bluesky.auto_post && bluesky.disconnected_at.is_none());
        assert_eq!((bluesky.did, bluesky.handle), (did(7, 1), Some("person1.example.com".to_owned())));
        // Readers are told that its two events have another kind of organiser now, once.
        assert_eq!(change::Entity::find().count(test.db.read()).await.unwrap(), changes + 2);
        let noted = audit_entry::Entity::find().all(test.db.read()).await.unwrap();
        assert_eq!(
            noted.iter().map(|entry| (entry.action, entry.user_id)).collect::<Vec<_>>(),
            [(AuditAction::Claimed, member.id)]
        );

        // Signing in again changes nothing but what was granted.
        let wider = SignedIn { scopes: vec!["atproto".into(), "blob:image/*".into()], ..signed_in(1) };
        let again = sign_in(&gateway.app, &wider).await.unwrap();
        assert_eq!((again.id, again.role), (member.id, member.role));
        let bluesky_again = again.preferences_bluesky.unwrap();
        assert_eq!(bluesky_again.connected_at, bluesky.connected_at);
        assert_eq!(bluesky_again.scopes.len(), 2);
        assert_eq!(change::Entity::find().count(test.db.read()).await.unwrap(), changes + 2);
        // Later records of that person are the member's.
        gateway.submit(&[event(1, 4)]).await;
        let events = entities::event::Entity::find().all(test.db.read()).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.user_id == member.id).count(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_did_that_is_none_signs_nobody_in() {
    on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        for did in ["", "did:plc:", "did:key:zQ3sh", "somebody.example.com"] {
            let error = sign_in(&gateway.app, &SignedIn { did: did.into(), ..signed_in(1) }).await.unwrap_err();
            assert_eq!(error.reason(), "DID_MALFORMED", "{did}");
        }
        assert_eq!(user::Entity::find().count(test.db.read()).await.unwrap(), 0);
    })
    .await;
}
