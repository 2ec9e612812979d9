//! How often it reads whom, and how much at a time.

use sockrec::record::Budget;

use crate::NOBODY;
use crate::made_up::{Case, SECOND_NS};

#[test]
fn an_owner_that_cannot_be_seen_is_asked_for_ever_less_often() {
    let mut case = Case::new();
    for pid in 10..110 {
        case.world.start(pid, &[]).is_denied = pid % 2 == 0;
    }
    case.world.start(9, &[1]).is_denied = true;
    case.tick(&[1], &[]);
    case.settle();
    case.wait(3_600);
    assert_eq!(case.holders(1), NOBODY);
    // An hour at intervals that double up to 256 seconds, at rounds ten seconds apart.
    let openings = case.world.opened / 101;
    assert!((14..=26).contains(&openings), "{openings} times each");
    case.world.at(9).is_denied = false;
    case.wait(300);
    assert_eq!(case.holders(1), [9]);
}

/// New sockets without an owner every second must not make it read everything every second.
#[test]
fn a_stream_of_sockets_without_owners_costs_little() {
    let mut case = Case::new();
    for pid in 10..510 {
        case.world.start(pid, &[pid]);
    }
    case.tick(&(10..510).collect::<Vec<_>>(), &[]);
    case.settle();
    let before = case.world.opened;
    for inode in 10_000..10_600 {
        case.tick(&[inode], &[inode - 5]);
        case.wait(1);
    }
    let openings = (case.world.opened - before) / 500;
    assert!(openings < 25, "{openings} times each in ten minutes");
}

#[test]
fn thousands_of_processes_are_read_in_many_small_passes() {
    let mut case = Case::new();
    for pid in 1..=5_000 {
        case.world.start(pid, &[pid, 100_000 + pid]);
    }
    case.budget = Budget { looks: 200, cpu_ns: i64::MAX.unsigned_abs() };
    let inodes: Vec<u32> = (1..=5_000).collect();
    case.tick(&inodes, &[]);
    let passes = case.settle();
    assert!((300..600).contains(&passes), "{passes}");
    assert!(inodes.iter().all(|&pid| case.holders(pid) == [pid]));
}

#[test]
fn no_pass_takes_longer_than_its_budget() {
    let mut case = Case::new();
    for pid in 1..=2_000 {
        case.world.start(pid, &[pid]);
    }
    // More descriptors than one pass may read.
    case.world.start(3_000, &(10_000..60_000).collect::<Vec<_>>());
    case.budget = Budget { looks: usize::MAX, cpu_ns: 5_000_000 };
    case.tick(&(1..=2_000).chain(10_000..60_000).collect::<Vec<_>>(), &[]);
    let mut passes = 0;
    while !case.search.is_settled() {
        let before = sockrec::record::Processes::cpu_ns(&case.world);
        case.pass();
        let used = sockrec::record::Processes::cpu_ns(&case.world) - before;
        assert!(used <= 6_000_000, "{used} ns");
        passes += 1;
    }
    assert!(passes > 20, "{passes}");
    assert_eq!(case.held.len(), 52_000);
}

/// A process whose descriptors change all the time must not keep the others from being read.
#[test]
fn every_process_has_its_turn() {
    let mut case = Case::new();
    case.budget = Budget { looks: 50, cpu_ns: i64::MAX.unsigned_abs() };
    case.world.start(5, &[5]);
    for pid in 10..1_000 {
        case.world.start(pid, &[pid]);
    }
    case.tick(&(5..1_000).collect::<Vec<_>>(), &[]);
    for _ in 0..2_000 {
        case.world.at(5).files = 1 + case.world.at(5).files % 50;
        case.tick(&[], &[]);
        case.pass();
        case.now_ns += SECOND_NS / 10;
    }
    assert_eq!(case.held.len(), 991);
}
