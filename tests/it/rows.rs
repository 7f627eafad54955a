//! Whole sets of rows in one statement: what is written is what is read, whatever stands for NULL on the way.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entities::{
    change,
    location::Texts,
    sets::{ChangeOperation, SourceType},
};
use fastrand::Rng;
use gateway::infra::db::{insert, insert_returning, replace};
use sea_orm::{ActiveModelTrait, ActiveValue::NotSet, EntityTrait, IntoActiveModel, sea_query::OnConflict};

use crate::support::database::on_each_database;

/// Values that the writer may choose to stand for NULL are the first of each list.
fn row(rng: &mut Rng, number: i64) -> change::Model {
    let texts = ["", "\u{1}", "\u{1}\u{1}", "NULL", "{a,\"b\\c\"}", "é🎈", if number > 300 { "a\u{1f}b" } else { "b" }];
    let instants = [0, 1_000_000, 2_000_000, 999_999, -1, -62_135_596_800_000_000, 253_402_300_799_999_999];
    let numbers = [0.0, 1.0, 2.0, -0.5, 52.520_006_599_999_99, f64::MAX];
    let text = |rng: &mut Rng| rng.bool().then(|| rng.choice(texts).unwrap().to_owned());
    let instant = |rng: &mut Rng| DateTime::<Utc>::from_timestamp_micros(rng.choice(instants).unwrap()).unwrap();
    let degrees = |rng: &mut Rng| rng.bool().then(|| rng.choice(numbers).unwrap());
    change::Model {
        id: 0,
        tenant_id: 1,
        event_id: number,
        event_uri: text(rng),
        operation: rng.choice([ChangeOperation::Created, ChangeOperation::Deleted]).unwrap(),
        changed_fields: Texts(text(rng).into_iter().chain(text(rng)).collect()),
        source_type: SourceType::Bluesky,
        organizer_did: text(rng),
        starts_at: rng.bool().then(|| instant(rng)),
        latitude: degrees(rng),
        longitude: degrees(rng),
        occurred_at: instant(rng),
        ingested_at: instant(rng),
    }
}

fn new(row: &change::Model) -> change::ActiveModel {
    let mut values = row.clone().into_active_model().reset_all();
    values.id = NotSet;
    values
}

#[tokio::test]
async fn rows_come_back_as_they_were_written() {
    on_each_database(async |test| {
        let mut rng = Rng::with_seed(7);
        let mut number = 0;
        let mut expected = BTreeMap::new();
        for count in [0, 1, 2, 3, 7, 64, 500] {
            let rows: Vec<_> = std::iter::repeat_with(|| {
                number += 1;
                row(&mut rng, number)
            })
            .take(count)
            .collect();
            let values: Vec<_> = rows.iter().map(new).collect();
            let key = [change::Column::EventId, change::Column::Id];
            let tx = &test.db;
            let ids: Vec<(i64, i64)> = tx
                .transact(|tx| {
                    let values = values.clone();
                    async move { insert_returning(&*tx, values, None, &key).await }
                })
                .await
                .unwrap();
            let ids: BTreeMap<i64, i64> = ids.into_iter().collect();
            assert_eq!(ids.len(), count);
            expected.extend(rows.into_iter().map(|row| {
                let id = ids[&row.event_id];
                (id, change::Model { id, ..row })
            }));
        }
        // Replaced by their key, whether that is known to be there or not, by rows that have other values and other gaps.
        let key = change::Column::Id;
        let columns = [change::Column::EventUri, change::Column::StartsAt, change::Column::Latitude];
        for is_known in [false, true] {
            let replaced: Vec<change::Model> = expected
                .values()
                .filter(|row| row.id % 3 == i64::from(is_known))
                .map(|held| change::Model { id: held.id, ..row(&mut rng, held.event_id) })
                .collect();
            let values: Vec<_> = replaced.iter().map(|row| row.clone().into_active_model().reset_all()).collect();
            let on_conflict = OnConflict::column(key).update_columns(columns).to_owned();
            test.db
                .transact(|tx| {
                    let (values, on_conflict) = (values.clone(), on_conflict.clone());
                    async move {
                        if is_known {
                            replace(&*tx, values, &[key], &columns).await
                        } else {
                            insert(&*tx, values, Some(on_conflict)).await
                        }
                    }
                })
                .await
                .unwrap();
            for row in replaced {
                let held = expected.get_mut(&row.id).unwrap();
                (held.event_uri, held.starts_at, held.latitude) = (row.event_uri, row.starts_at, row.latitude);
            }
        }
        let found = change::Entity::find().all(test.db.read()).await.unwrap();
        let found: BTreeMap<i64, change::Model> = found.into_iter().map(|row| (row.id, row)).collect();
        assert_eq!(found, expected);
    })
    .await;
}
