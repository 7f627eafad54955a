//! What opens, and what does not.

use std::{os::unix::fs::PermissionsExt as _, sync::Barrier, thread};

use proptest::prelude::*;

use super::*;

fn with(keys: &[&str]) -> Seal {
    Seal::new(SealSettings { keys: keys.iter().map(|&key| key.to_owned()).collect(), file: None }).unwrap()
}

proptest! {
    #[test]
    fn only_what_was_sealed_opens(
        value in prop::collection::vec(any::<u8>(), 0..300), purpose in ".{0,40}", other in ".{0,40}",
        at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>(),
    ) {
        let key = Seal::generate().unwrap();
        let seal = with(&[&key]);
        let sealed = seal.close(&purpose, &value).unwrap();
        prop_assert_eq!(seal.open(&purpose, &sealed).unwrap(), Some(value.clone()));
        prop_assert_ne!(seal.close(&purpose, &value).unwrap(), sealed.clone());
        if other != purpose {
            prop_assert_eq!(seal.open(&other, &sealed).unwrap(), None);
        }
        let mut broken = sealed.clone();
        broken[at.index(sealed.len())] ^= 1 << bit;
        prop_assert_eq!(seal.open(&purpose, &broken).unwrap(), None);
        prop_assert_eq!(seal.open(&purpose, &sealed[..cut.index(sealed.len())]).unwrap(), None);
        prop_assert_eq!(with(&[&Seal::generate().unwrap()]).open(&purpose, &sealed).unwrap(), None);
    }
}

#[test]
fn keys_are_exchanged_without_losing_what_they_sealed() {
    let (old, new) = (Seal::generate().unwrap(), Seal::generate().unwrap());
    let before = with(&[&old]).close("a", b"value").unwrap();
    let both = with(&[&new, &old]);
    assert_eq!(both.open("a", &before).unwrap().unwrap(), b"value");
    let after = both.close("a", b"value").unwrap();
    assert_eq!(with(&[&new]).open("a", &after).unwrap().unwrap(), b"value", "the first one seals");
    assert_eq!(with(&[&new]).open("a", &before).unwrap(), None);
}

#[test]
fn what_is_no_key_is_refused_and_without_a_key_nothing_is_sealed() {
    for text in ["", "short", &"x".repeat(44), &"!".repeat(43)] {
        let settings = SealSettings { keys: vec![text.to_owned()], file: None };
        assert_eq!(Seal::new(settings).unwrap_err().reason(), "CONFIG_INVALID", "{text:?}");
    }
    assert!(matches!(with(&[]).close("a", b"value"), Err(Error::Unavailable { service: "seal", .. })));
}

#[test]
fn all_who_come_at_once_get_the_key_of_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sqlite.key");
    let at_once = Barrier::new(8);
    let sealed: Vec<_> = thread::scope(|scope| {
        let seal = || {
            let seal = Seal::new(SealSettings { keys: Vec::new(), file: Some(path.clone()) }).unwrap();
            at_once.wait();
            seal.close("a", b"value").unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(seal)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let seal = Seal::new(SealSettings { keys: Vec::new(), file: Some(path.clone()) }).unwrap();
    assert!(sealed.iter().all(|sealed| seal.open("a", sealed).unwrap().is_some()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
}
