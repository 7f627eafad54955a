//! Whatever the order in which the network's messages come, however often, in batches of any size, through several
//! processes at once, and however often a process is killed meanwhile: the state is what a plain model says.

pub(crate) mod history;
pub(crate) mod model;

use std::{fmt::Write as _, sync::Arc};

use entities::source_record;
use fastrand::Rng;
use gateway::infra::db::Db;
use sea_orm::{EntityTrait, PaginatorTrait};

use self::{
    history::{Message, history},
    model::{State, author, faults_of_log},
};
use crate::support::{
    app::TestApp,
    database::{TestDb, postgres, sqlite},
    process::{Program, kill},
};

/// Histories whose messages are mixed with each other, and the way in which they come.
struct Delivery {
    seed: u64,
    histories: Vec<Vec<Message>>,
    /// Lines in the order of their arrival.
    batches: Vec<Vec<String>>,
}

impl Delivery {
    fn new(seed: u64, histories: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let histories: Vec<Vec<Message>> = (0..histories).map(|_| history(rng.u64(..))).collect();
        let batches = shuffled(&mut rng, &histories);
        Self { seed, histories, batches }
    }

    /// What is to come of it.
    fn expected(&self) -> State {
        let mut state = State::default();
        for history in &self.histories {
            state.extend(State::expected(history));
        }
        state
    }

    fn holds(&self, did: &str) -> bool {
        self.histories.iter().flatten().any(|message| message.did == did)
    }
}

/// All messages in any order, some of them several times, in batches of any size.
fn shuffled(rng: &mut Rng, histories: &[Vec<Message>]) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for message in histories.iter().flatten() {
        let times = if rng.u8(..4) == 0 { rng.usize(2..4) } else { 1 };
        lines.extend(std::iter::repeat_n(message.line(), times));
    }
    // Half of the deliveries come nearly in order, as streams do.
    if rng.bool() {
        rng.shuffle(&mut lines);
    } else {
        for at in 1..lines.len() {
            lines.swap(at, at - rng.usize(..=at.min(6)));
        }
    }
    let largest = [1, 6, 12, 30, 30, 80, 80, 200][rng.usize(..8)];
    let mut batches = Vec::new();
    while !lines.is_empty() {
        let rest = lines.split_off(rng.usize(1..=largest).min(lines.len()));
        batches.push(std::mem::replace(&mut lines, rest));
    }
    batches
}

/// What is wrong, given everything that was delivered to a database.
async fn faults(db: &Db, deliveries: &[Delivery]) -> Vec<String> {
    let mut expected = State::default();
    for delivery in deliveries {
        expected.extend(delivery.expected());
    }
    let mut faults = expected.differences(&State::stored(db.read()).await);
    faults.extend(faults_of_log(db).await);
    faults
}

/// The delivery that a fault speaks of.
fn culprit<'a>(fault: &str, deliveries: &'a [Delivery]) -> Option<&'a Delivery> {
    let did = author(fault.split_once("did:plc:").map(|(_, rest)| rest)?);
    let did = format!("did:plc:{}", did.get(..24)?);
    deliveries.iter().find(|delivery| delivery.holds(&did))
}

/// The faults of the batches alone, in a fresh database.
async fn alone(fresh: &impl AsyncFn() -> TestDb, delivery: &Delivery, batches: &[Vec<String>]) -> Vec<String> {
    let test = fresh().await;
    let gateway = TestApp::open(&test).await;
    for batch in batches {
        gateway.submit(batch).await;
    }
    let delivered = |message: &&Message| batches.iter().flatten().any(|line| *line == message.line());
    let histories = delivery.histories.iter().map(|history| history.iter().filter(delivered).cloned().collect());
    let rest = Delivery { seed: delivery.seed, histories: histories.collect(), batches: Vec::new() };
    let faults = faults(&test.db, std::slice::from_ref(&rest)).await;
    drop(gateway);
    test.discard().await;
    faults
}

/// Leaves out whatever can be left out while something stays wrong, and says what remains.
async fn shrink(fresh: &impl AsyncFn() -> TestDb, delivery: &Delivery) -> String {
    let mut batches = delivery.batches.clone();
    let mut found = alone(fresh, delivery, &batches).await;
    if found.is_empty() {
        return "alone in a database it does not fail".to_owned();
    }
    let mut step = batches.iter().map(Vec::len).sum::<usize>() / 2;
    while step > 0 {
        let mut at = 0;
        while at < batches.iter().map(Vec::len).sum() {
            let mut place = 0..;
            let mut fewer = batches.clone();
            for batch in &mut fewer {
                batch.retain(|_| place.next().is_none_or(|place| !(at..at + step).contains(&place)));
            }
            fewer.retain(|batch| !batch.is_empty());
            let still = alone(fresh, delivery, &fewer).await;
            if still.is_empty() {
                at += step;
            } else {
                (batches, found) = (fewer, still);
            }
        }
        step /= 2;
    }
    let mut text = String::new();
    for batch in &batches {
        writeln!(text, "batch\n  {}", batch.join("\n  ")).unwrap();
    }
    format!("{text}{}", found.join("\n"))
}

/// Two workers, each with a database of its own, take their halves of so many deliveries.
async fn converge(fresh: impl AsyncFn() -> TestDb, deliveries: u64) {
    let mut workers = Vec::new();
    for worker in 0..2 {
        let test = fresh().await;
        workers.push(tokio::spawn(async move {
            let gateway = TestApp::open(&test).await;
            let mut delivered = Vec::new();
            for number in 0..deliveries / 2 {
                let delivery = Delivery::new(worker * 1_000_000 + number, 4);
                for batch in &delivery.batches {
                    gateway.submit(batch).await;
                }
                delivered.push(delivery);
            }
            let faults = faults(&test.db, &delivered).await;
            drop(gateway);
            test.discard().await;
            (faults, delivered)
        }));
    }
    for worker in workers {
        let (faults, delivered) = worker.await.unwrap();
        let Some(first) = faults.first() else { continue };
        let shrunk = match culprit(first, &delivered) {
            Some(culprit) => format!("seed {}: {}", culprit.seed, shrink(&fresh, culprit).await),
            None => String::new(),
        };
        panic!("{} faults, the first: {first}\n{shrunk}", faults.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_histories_converge_on_sqlite() {
    converge(sqlite, 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_histories_converge_on_postgres() {
    if let Some(test) = postgres().await {
        test.discard().await;
        converge(async || postgres().await.unwrap(), 250).await;
    }
}

/// Several processors that take different shuffles of the same histories at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_at_the_same_time_leave_no_trace() {
    let Some(test) = postgres().await else { return };
    let gateway = Arc::new(TestApp::open(&test).await);
    let mut delivered = Vec::new();
    for seed in 0..40 {
        let delivery = Delivery::new(2_000_000 + seed, 3);
        let processors = (0..3).map(|processor| {
            let mut batches = shuffled(&mut Rng::with_seed(seed * 3 + processor), &delivery.histories);
            // Small ones meet more often.
            batches = batches.iter().flat_map(|batch| batch.chunks(8)).map(<[String]>::to_vec).collect();
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                for batch in &batches {
                    gateway.submit(batch).await;
                }
            })
        });
        for processor in processors.collect::<Vec<_>>() {
            processor.await.unwrap();
        }
        delivered.push(delivery);
    }
    let faults = faults(&test.db, &delivered).await;
    drop(gateway);
    test.discard().await;
    let seed = faults.first().and_then(|first| culprit(first, &delivered)).map(|culprit| culprit.seed);
    assert!(faults.is_empty(), "{} faults, of seed {seed:?}: {}", faults.len(), faults.join("\n"));
}

/// One process after the other is killed while it replays; the last one is left to end.
async fn survive_kills(test: &TestDb) {
    let delivery = Delivery::new(3_000_000, 48);
    let program = Program::over(&test.url).with("GATEWAY_INGEST__BATCH_SIZE", "5");
    let file = program.file(delivery.batches.iter().flatten());
    let all = delivery.expected().records();
    let mut rng = Rng::with_seed(3);
    for round in 0..12 {
        let threshold = u64::try_from(all).unwrap() * (round * 7 + rng.u64(1..7)) / 100;
        let mut child = program.start(&["replay", file.to_str().unwrap()]);
        while source_record::Entity::find().count(test.db.read()).await.unwrap() < threshold
            && child.try_wait().unwrap().is_none()
        {
            tokio::task::yield_now().await;
        }
        assert!(kill(child).await, "the replay ended before it could be killed");
    }
    program.replay(&file).await;
    let faults = faults(&test.db, &[delivery]).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_cut_by_kills_converge_on_sqlite() {
    let test = sqlite().await;
    survive_kills(&test).await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_cut_by_kills_converge_on_postgres() {
    if let Some(test) = postgres().await {
        survive_kills(&test).await;
        test.discard().await;
    }
}
