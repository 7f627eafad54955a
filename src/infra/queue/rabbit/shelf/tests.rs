//! Order, generations and acknowledgements, without a broker.

use super::*;

const ALL: usize = usize::MAX;

fn shelf() -> Shelf<()> {
    let mut shelf = Shelf::default();
    for lane in 0..2 {
        shelf.add(true);
        shelf.open(lane, ());
    }
    shelf
}

fn arrive(shelf: &mut Shelf<()>, lane: usize, number: u64, key: &str) {
    shelf.arrive(lane, number, vec![held(key, &number.to_string())]);
}

fn held(key: &str, end: &str) -> Held {
    let (key, body) = (key.to_owned(), format!("{key}{end}"));
    Held { key, body, attempts: 0, published: 0, arrived: Instant::now(), cause: None }
}

fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.body.as_str()).collect()
}

fn tag(delivery: &Delivery) -> Tag {
    let Receipt::Tag(tag) = delivery.receipt else { panic!("{delivery:?}") };
    tag
}

fn told(acknowledgements: &[Acknowledgement<()>]) -> Vec<(u64, bool)> {
    acknowledgements.iter().map(|a| (a.number, a.multiple)).collect()
}

#[test]
fn a_key_that_is_worked_on_waits() {
    let mut shelf = shelf();
    for (number, key) in [(1, "a"), (2, "b"), (3, "a")] {
        arrive(&mut shelf, 0, number, key);
    }
    let first = shelf.take(1, ALL, true);
    assert_eq!(bodies(&first), ["a1"]);
    let second = shelf.take(9, ALL, true);
    assert_eq!(bodies(&second), ["b2"], "an earlier message of a is being worked on");
    shelf.finish(&[tag(&first[0])]);
    assert_eq!(bodies(&shelf.take(9, ALL, true)), ["a3"]);
}

#[test]
fn a_batch_holds_a_series_only_where_it_may() {
    let mut shelf = shelf();
    for (number, key) in [(1, "a"), (2, "a"), (3, "b")] {
        arrive(&mut shelf, 0, number, key);
    }
    let batch = shelf.take(9, ALL, false);
    assert_eq!(bodies(&batch), ["a1", "b3"]);
    for delivery in batch {
        shelf.put_back(delivery);
    }
    assert_eq!(bodies(&shelf.take(9, ALL, true)), ["a1", "a2", "b3"], "what comes back takes its old place");
}

#[test]
fn a_batch_is_bounded_in_bytes_but_never_empty() {
    let mut shelf = shelf();
    for number in 1..=3 {
        arrive(&mut shelf, 0, number, "key");
    }
    assert_eq!(shelf.take(9, 1, true).len(), 1);
    let mut shelf = self::shelf();
    for number in 1..=3 {
        arrive(&mut shelf, 0, number, "key");
    }
    assert_eq!(shelf.take(9, 8, true).len(), 2);
}

#[test]
fn acknowledgements_never_cover_what_is_not_done() {
    let mut shelf = shelf();
    for number in 1..=5 {
        arrive(&mut shelf, 0, number, &format!("k{number}"));
    }
    let out = shelf.take(4, ALL, true);
    let tags: Vec<Tag> = out.iter().map(tag).collect();
    assert_eq!(told(&shelf.finish(&[tags[1]])), [(2, false)], "1 is being worked on");
    assert_eq!(told(&shelf.finish(&[tags[0], tags[2]])), [(3, true)]);
    assert_eq!(told(&shelf.finish(&[tags[3]])), [(4, true)], "5 is later and waits");
    assert_eq!(told(&shelf.finish(&[tags[3]])), [], "nothing is acknowledged twice");
}

#[test]
fn what_came_together_goes_out_together_and_is_acknowledged_when_the_last_of_it_is_done() {
    let mut shelf = shelf();
    let arrives = |shelf: &mut Shelf<()>, number, parts: &[(&str, &str)]| {
        shelf.arrive(0, number, parts.iter().map(|(key, end)| held(key, end)).collect());
    };
    arrives(&mut shelf, 1, &[("a", "1"), ("b", "2"), ("a", "3")]);
    arrives(&mut shelf, 2, &[("c", "4"), ("d", "5")]);
    arrives(&mut shelf, 3, &[("d", "6"), ("e", "7")]);
    let mut first = shelf.take(4, ALL, true);
    assert_eq!(bodies(&first), ["a1", "b2", "a3"], "the next two do not fit");
    let part = shelf.take(1, ALL, true);
    assert_eq!(bodies(&part), ["c4"], "they never would");
    let other = shelf.take(1, ALL, true);
    assert_eq!(bodies(&other), ["d5"]);
    assert!(shelf.take(9, ALL, true).is_empty(), "d is being worked on, and 7 came with 6");
    let tags: Vec<Tag> = first.iter().map(tag).collect();
    assert_eq!(told(&shelf.finish(&[tags[0], tags[1], tag(&part[0])])), [], "of each something is left");
    shelf.put_back(first.remove(2));
    let again = shelf.take(9, ALL, true);
    assert_eq!(bodies(&again), ["a3"]);
    assert_eq!(told(&shelf.finish(&[tag(&other[0])])), [(2, false)], "and of the first still is");
    assert_eq!(told(&shelf.finish(&[tag(&again[0])])), [(1, true)]);
    assert_eq!(bodies(&shelf.take(9, ALL, true)), ["d6", "e7"]);
}

#[test]
fn a_delivery_from_before_a_reconnect_is_never_acknowledged() {
    let mut shelf = shelf();
    arrive(&mut shelf, 0, 1, "a");
    let old = shelf.take(9, ALL, true);
    shelf.open(0, ());
    arrive(&mut shelf, 0, 1, "a");
    assert!(shelf.take(9, ALL, true).is_empty(), "the first delivery is still being worked on");
    assert_eq!(told(&shelf.finish(&[tag(&old[0])])), []);
    let new = shelf.take(9, ALL, true);
    assert_eq!(told(&shelf.finish(&[tag(&new[0])])), [(1, true)]);
}

#[test]
fn a_lane_leaves_when_nobody_works_on_it() {
    let mut shelf = shelf();
    arrive(&mut shelf, 0, 1, "a");
    arrive(&mut shelf, 0, 2, "b");
    arrive(&mut shelf, 1, 1, "c");
    let out = shelf.take(1, ALL, true);
    assert!(!shelf.balance(1, false));
    assert!(!shelf.may_leave(0) && !shelf.may_leave(1), "one consumer has everything");
    shelf.leave(0);
    assert!(!shelf.may_leave(0));
    assert_eq!(bodies(&shelf.take(9, ALL, true)), ["c1"], "a lane that leaves hands nothing out");
    shelf.finish(&[tag(&out[0])]);
    assert!(shelf.may_leave(0));
}

#[test]
fn more_than_a_share_is_given_up_one_by_one() {
    let leaving = |shelf: &Shelf<()>| (0..3).filter(|lane| shelf.may_leave(*lane)).count();
    let with_lanes = |active: usize| {
        let mut shelf = shelf();
        shelf.add(true);
        shelf.open(2, ());
        (0..active).for_each(|lane| arrive(&mut shelf, lane, 1, &lane.to_string()));
        shelf
    };
    let mut shelf = with_lanes(3);
    assert!(!shelf.balance(2, false));
    assert!(!shelf.balance(2, false));
    assert_eq!(leaving(&shelf), 1, "two of three are its share, and one leaves");
    let mut shelf = with_lanes(2);
    assert!(!shelf.balance(2, false));
    assert_eq!(leaving(&shelf), 0);
    assert!(!shelf.balance(2, true));
    assert_eq!(leaving(&shelf), 1, "somebody has none");
    assert!(with_lanes(0).balance(2, false), "it has none itself");
    assert!(!with_lanes(0).balance(4, false), "there are not enough for all");
}

#[test]
fn what_nobody_settles_goes_back_to_the_broker() {
    let mut shelf = shelf();
    arrive(&mut shelf, 0, 1, "a");
    let out = shelf.take(9, ALL, true);
    shelf.give_up(Duration::from_mins(1));
    assert!(!shelf.may_leave(0));
    shelf.give_up(Duration::ZERO);
    assert!(shelf.may_leave(0));
    shelf.close(0);
    assert_eq!(told(&shelf.finish(&[tag(&out[0])])), []);
}

#[test]
fn no_acknowledgement_covers_what_was_given_up() {
    let mut shelf = shelf();
    shelf.arrive(0, 1, vec![held("a", "1"), held("b", "2")]);
    let mut slow = shelf.take(2, ALL, true);
    shelf.put_back(slow.remove(1));
    arrive(&mut shelf, 0, 2, "c");
    let slow = tag(&slow[0]);
    shelf.out.get_mut(&slow).unwrap().since -= Duration::from_mins(1);
    let quick: Vec<Tag> = shelf.take(9, ALL, true).iter().map(tag).collect();
    shelf.give_up(Duration::from_secs(30));
    assert_eq!(told(&shelf.finish(&quick)), [(2, false)], "of the first something is not done");
    assert!(shelf.may_leave(0), "who has it may never come back");
    assert!(shelf.find(slow).is_some(), "but may still have it tried again");
    arrive(&mut shelf, 1, 1, "a");
    assert!(shelf.take(9, ALL, true).is_empty(), "and works on it");
    shelf.close(0);
    assert_eq!(bodies(&shelf.take(9, ALL, true)), ["a1"], "until the broker has it back");
    assert_eq!(told(&shelf.finish(&[slow])), []);
}

#[test]
fn no_acknowledgement_covers_what_is_to_be_refused() {
    let mut shelf = shelf();
    arrive(&mut shelf, 0, 1, "a");
    shelf.refuse(0, 2);
    arrive(&mut shelf, 0, 3, "b");
    let tags: Vec<Tag> = shelf.take(9, ALL, true).iter().map(tag).collect();
    assert_eq!(told(&shelf.finish(&tags)), [(1, true), (3, false)], "the second would be deleted");
    shelf.refused(0, 2);
    arrive(&mut shelf, 0, 4, "c");
    let tags: Vec<Tag> = shelf.take(9, ALL, true).iter().map(tag).collect();
    assert_eq!(told(&shelf.finish(&tags)), [(4, true)]);
}

#[test]
fn a_lane_leaves_when_the_last_is_refused() {
    let mut shelf = shelf();
    shelf.refuse(0, 1);
    shelf.leave(0);
    assert!(!shelf.may_leave(0));
    shelf.refused(0, 1);
    assert!(shelf.may_leave(0));
}
