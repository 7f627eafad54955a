//! The address of whoever signs in: taken over where it was confirmed and none is known, and never in the place of another.

use entities::user;
use gateway::{app::App, domain::login};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::{
    hostile::sign_in,
    liar::{Liar, Lie, Plc},
    stand::{Stand, open, settings},
};
use crate::support::{
    database::{on_each_database, sqlite},
    devnet::{Account, Devnet},
};

const SESSION: &str = "/xrpc/com.atproto.server.getSession";

async fn address(app: &App, did: &str) -> Option<String> {
    let found = user::Entity::find().filter(user::Column::Did.eq(did)).one(app.db.read()).await.unwrap();
    found.unwrap().email
}

fn says(liar: &Liar, email: Value, confirmed: Value) {
    liar.repent();
    liar.lie(SESSION, Lie::Field("email", Some(email)));
    liar.lie(SESSION, Lie::Field("emailConfirmed", Some(confirmed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_taken_over_once_and_by_the_rules() {
    let plc = Plc::start().await;
    on_each_database(async |test| {
        let key = gateway::infra::seal::Seal::generate().unwrap();
        let more = [("GATEWAY_NETWORK__PLC_URL", plc.url.as_str()), ("GATEWAY_SECRETS__KEYS", &key)];
        let app = open(&settings(None, test, &more)).await;
        let liar = Liar::start(&plc).await;
        for (email, confirmed) in [
            (json!("ann@mail.example"), json!(false)),
            (json!("ann@mail.example"), json!(null)),
            (json!("ann@mail.example"), json!("true")),
            (json!(null), json!(true)),
            (json!(7), json!(true)),
            (json!(""), json!(true)),
            (json!("ann"), json!(true)),
            (json!("ann@mail.example\r\nBcc: all@mail.example"), json!(true)),
        ] {
            says(&liar, email.clone(), confirmed.clone());
            sign_in(&app, &liar, &liar.did).await.unwrap();
            assert_eq!(address(&app, &liar.did).await, None, "{email} {confirmed}");
        }
        // What is not answered keeps nobody out.
        for lie in [Lie::Status(500), Lie::Status(400), Lie::Body(b"{".to_vec()), Lie::Header("dpop-nonce", None)] {
            liar.repent();
            liar.lie(SESSION, lie);
            sign_in(&app, &liar, &liar.did).await.unwrap();
            assert_eq!(address(&app, &liar.did).await, None);
        }
        says(&liar, json!("ann@mail.example"), json!(true));
        sign_in(&app, &liar, &liar.did).await.unwrap();
        assert_eq!(address(&app, &liar.did).await.as_deref(), Some("ann@mail.example"));
        // It is not asked for again, and what is known stays.
        let asked = liar.asked(SESSION).len();
        says(&liar, json!("other@mail.example"), json!(true));
        sign_in(&app, &liar, &liar.did).await.unwrap();
        assert_eq!(address(&app, &liar.did).await.as_deref(), Some("ann@mail.example"));
        assert_eq!(liar.asked(SESSION).len(), asked);

        // Somebody else who says to have the same.
        let second = Liar::start(&plc).await;
        says(&second, json!("Ann@Mail.example"), json!(true));
        sign_in(&app, &second, &second.did).await.unwrap();
        assert_eq!(address(&app, &second.did).await, None);
        // Where it was not granted, nobody is asked.
        let third = Liar::start(&plc).await;
        says(&third, json!("cid@mail.example"), json!(true));
        third.grants("atproto transition:generic");
        sign_in(&app, &third, &third.did).await.unwrap();
        assert_eq!((address(&app, &third.did).await, third.asked(SESSION).len()), (None, 0));
        // The platform's own word counts before anybody's.
        let row =
            user::Entity::find().filter(user::Column::Did.eq(&third.did)).one(app.db.read()).await.unwrap().unwrap();
        let own = &user::ActiveModel {
            id: Set(row.id),
            email: Set(Some("own@mail.example".to_owned())),
            ..Default::default()
        };
        app.db.transact(|tx| async move { Ok(own.clone().update(&*tx).await?) }).await.unwrap();
        third.grants("atproto transition:generic transition:email");
        sign_in(&app, &third, &third.did).await.unwrap();
        assert_eq!(address(&app, &third.did).await.as_deref(), Some("own@mail.example"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_servers_tell_the_address_of_who_allows_it() {
    let (devnet, test) = (Devnet::start().await, sqlite().await);
    let stand = Stand::public(&settings(Some(&devnet), &test, &[])).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    let enter = async |account: &Account, scope: Option<&str>| {
        let mut browser = stand.browser();
        let page = browser.begin(&stand.origin, &account.handle, "").await;
        let back = browser.approve(page.location(), account, scope).await;
        assert_eq!(browser.open(&back).await.status, 200);
        address(&stand.app, &account.did).await
    };
    assert_eq!(enter(&ann, None).await, None, "it was not confirmed yet");
    ann.confirm_email().await;
    cid.confirm_email().await;
    assert_eq!(enter(&ann, None).await.as_deref(), Some(ann.email()));
    let without = login::SCOPE.replace(" account:email", "");
    assert_eq!(enter(&cid, Some(&without)).await, None, "it was not allowed");
    assert_eq!(enter(&cid, None).await.as_deref(), Some(cid.email()));
}
