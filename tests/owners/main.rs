//! Who holds which socket: the search over a made-up `/proc` and over the real one, and what a
//! recording keeps of it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;
mod kernel;
mod made_up;
mod stored;

use harness::Random;
use made_up::{Case, SECOND_NS, World};
use sockrec::model::{HOLDERS_MAX, Ownership, ProcessId, ProcessKey, SnapshotId, SocketId};
use sockrec::record::{Budget, SocketNews};
use sockrec::store::FormerOwners;

/// No process.
const NOBODY: [u32; 0] = [];

#[test]
fn nothing_is_read_while_nothing_is_wanted() {
    let mut case = Case::new();
    case.world.start(10, &[1, 2]);
    case.tick(&[], &[]);
    case.settle();
    assert_eq!(case.world.opened, 0);
    assert_eq!(case.search.due_ns(), None);
}

#[test]
fn every_holder_of_a_socket_is_found() {
    let mut case = Case::new();
    case.world.start(10, &[1, 2]);
    case.world.start(11, &[2, 3]);
    case.world.start(12, &[]);
    case.tick(&[1, 2], &[]);
    case.settle();
    assert_eq!(case.holders(1), [10]);
    assert_eq!(case.holders(2), [10, 11]);
    assert_eq!(case.held.len(), 3);
    assert_eq!(case.processes.len(), 2, "who holds nothing that is recorded is not noted");
}

#[test]
fn a_settled_world_is_only_glanced_at() {
    let mut case = Case::new();
    for pid in 10..60 {
        case.world.start(pid, &[pid]);
    }
    case.tick(&(10..60).collect::<Vec<_>>(), &[]);
    case.settle();
    assert_eq!(case.world.opened, 50);
    case.wait(50);
    assert_eq!(case.world.opened, 50);
}

#[test]
fn a_socket_that_is_shown_after_its_process_was_read_needs_no_reading() {
    let mut case = Case::new();
    case.world.start(10, &[1, 2]);
    case.tick(&[1], &[]);
    case.settle();
    case.tick(&[2], &[]);
    case.settle();
    assert_eq!(case.holders(2), [10]);
    assert_eq!(case.world.opened, 1);
}

#[test]
fn what_was_read_of_a_process_that_changed_since_proves_nothing() {
    let mut case = Case::new();
    case.world.start(10, &[1, 2]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.at(10).sockets = vec![1];
    case.tick(&[2], &[]);
    case.settle();
    assert_eq!(case.holders(2), NOBODY);
    assert_eq!(case.holders(1), [10]);
}

#[test]
fn what_a_server_accepts_is_found_by_reading_only_the_server() {
    let mut case = Case::new();
    for pid in 10..200 {
        case.world.start(pid, &[pid]);
    }
    case.tick(&(10..200).collect::<Vec<_>>(), &[]);
    case.settle();
    let before = case.world.opened;
    for inode in 1_000..1_010 {
        case.world.at(77).sockets.push(inode);
        case.tick(&[inode], &[]);
        case.settle();
        assert_eq!(case.holders(inode), [77]);
    }
    assert_eq!(case.world.opened, before + 10);
}

/// Closed one and opened another between two looks: the number of descriptors is the same.
#[test]
fn an_exchanged_socket_is_found_although_the_count_is_the_same() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.start(11, &[3]);
    case.tick(&[1, 3], &[]);
    case.settle();
    case.world.at(10).sockets = vec![2];
    case.tick(&[2], &[]);
    case.settle();
    assert_eq!(case.holders(2), [10]);
    assert_eq!(case.holders(1), NOBODY);
}

#[test]
fn an_owner_of_a_file_in_place_of_a_socket_is_found_out_in_time() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.start(11, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.at(10).sockets.clear();
    case.world.at(10).files += 1;
    case.wait(75);
    assert_eq!(case.holders(1), [11]);
}

#[test]
fn a_socket_is_passed_on() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.start(11, &[]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.at(11).sockets.push(1);
    case.tick(&[], &[]);
    case.wait(10);
    assert_eq!(case.holders(1), [10, 11]);
    case.world.processes.remove(&10);
    case.tick(&[], &[]);
    case.wait(10);
    assert_eq!(case.holders(1), [11]);
    let (ownership, last) = case.released[0];
    assert_eq!((ownership.since, last), (SnapshotId(1), SnapshotId(2)));
    assert_eq!(case.processes.len(), 2, "an owner that is gone is still known");
}

/// Nobody waits for the round that looks at everybody, ten seconds later.
#[test]
fn who_was_given_a_socket_is_found_at_the_tick_after_the_giver_let_go() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.start(11, &[]);
    case.tick(&[1], &[]);
    case.wait(60);
    case.world.at(10).sockets.clear();
    case.world.at(11).sockets.push(1);
    case.tick(&[], &[]);
    case.settle();
    assert_eq!(case.holders(1), NOBODY);
    case.tick(&[], &[]);
    case.settle();
    assert_eq!(case.holders(1), [11]);
}

/// What it got and what it closed instead: the number of its descriptors is the same.
#[test]
fn a_child_that_looks_the_same_is_found_in_the_round_that_finds_its_parent() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.fork(10, 11);
    case.world.start(12, &[3]);
    case.tick(&[1, 3], &[]);
    case.settle();
    case.world.at(10).sockets.push(2);
    case.world.at(11).sockets.push(2);
    case.world.at(11).files -= 1;
    let before = case.world.opened;
    case.tick(&[2], &[]);
    case.settle();
    assert_eq!(case.holders(2), [10, 11]);
    assert_eq!(case.world.opened, before + 2, "a stranger is left alone");
}

#[test]
fn a_parent_and_whoever_shares_another_socket_are_read_in_the_same_round() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.fork(10, 11);
    case.world.start(12, &[1, 3]);
    case.tick(&[1, 3], &[]);
    case.settle();
    for pid in [10, 12] {
        case.world.at(pid).sockets.push(2);
        case.world.at(pid).files -= 1;
    }
    case.world.at(11).sockets.push(2);
    case.tick(&[2], &[]);
    case.settle();
    assert_eq!(case.holders(2), [10, 11, 12]);
}

#[test]
fn of_a_thousand_relatives_a_round_reads_some() {
    let mut case = Case::new();
    case.world.start(1, &[1]);
    for pid in 2..=1_001 {
        case.world.fork(1, pid);
    }
    case.tick(&[1], &[]);
    case.settle();
    let before = case.world.opened;
    for inode in 2..5 {
        case.world.at(1).sockets.push(inode);
        case.tick(&[inode], &[]);
        case.settle();
    }
    assert_eq!(case.world.opened - before, 3 * (1 + 32));
}

#[test]
fn of_the_holders_of_one_socket_a_bounded_number_is_recorded() {
    let mut case = Case::new();
    case.world.start(1, &[1]);
    for pid in 2..=300 {
        case.world.fork(1, pid);
    }
    case.world.at(200).sockets.push(2);
    case.tick(&[1, 2], &[]);
    case.settle();
    assert_eq!(case.holders(1).len(), HOLDERS_MAX);
    assert_eq!(case.holders(2), [200]);
    let recorded = case.holders(1);
    for pid in &recorded {
        case.world.processes.remove(pid);
    }
    case.tick(&[], &[]);
    case.wait(300);
    assert_eq!(case.holders(1).len(), HOLDERS_MAX, "others come in the place of those that went");
}

/// The end of a holder, and what it let go of, is known a tick later although nothing is new.
#[test]
fn until_when_a_socket_was_held_is_known_to_the_tick() {
    for kept_max in [1_000, 0] {
        let mut case = Case::new();
        case.world.kept_max = kept_max;
        case.world.start(10, &[1]);
        case.world.fork(10, 11);
        case.world.fork(10, 12);
        case.tick(&[1], &[]);
        case.wait(3);
        let second = |case: &mut Case| {
            case.now_ns += SECOND_NS;
            case.tick(&[], &[]);
            case.settle();
        };
        (0..3).for_each(|_| second(&mut case));
        case.world.processes.remove(&11);
        case.world.at(12).sockets.clear();
        second(&mut case);
        let mut last: Vec<_> = case.released.iter().map(|(_, last)| last.0).collect();
        last.sort_unstable();
        if kept_max == 0 {
            assert_eq!(last, [] as [i64; 0], "the next round will tell");
            case.wait(10);
            assert_eq!((case.holders(1), case.released.len()), (vec![10], 2));
        } else {
            assert_eq!((case.holders(1), last), (vec![10], vec![4, 4]));
        }
    }
}

#[test]
fn who_was_not_seen_with_a_shared_socket_to_the_last_did_not_hold_it_to_its_end() {
    let mut case = Case::new();
    case.world.kept_max = 1;
    case.world.start(10, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.fork(10, 11);
    case.wait(10);
    assert_eq!((case.world.kept(), case.holders(1)), (1, vec![10, 11]));
    for _ in 0..4 {
        case.tick(&[], &[]);
        case.settle();
    }
    case.tick(&[], &[1]);
    case.settle();
    let held_to_end: Vec<_> =
        case.held_to_end.keys().map(|(_, p)| case.processes[p].key.pid).collect();
    assert_eq!(held_to_end, [10]);
    assert_eq!(case.released.iter().map(|(_, last)| last.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn of_a_socket_that_ended_nothing_more_is_said() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.tick(&[], &[1]);
    case.world.processes.remove(&10);
    case.wait(30);
    assert_eq!(case.released, []);
    assert_eq!(case.search.due_ns(), None);
}

#[test]
fn a_socket_with_another_inode_has_other_owners() {
    let mut case = Case::new();
    case.world.start(10, &[1, 2]);
    case.world.start(11, &[2]);
    let socket = SocketId(5);
    for inode in [1, 2] {
        case.tell(SocketNews { wanted: [(socket, inode)].into_iter().collect(), gone: vec![] });
        case.settle();
    }
    let mut pids: Vec<_> = case.held.keys().map(|(_, p)| case.processes[p].key.pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, [10, 11]);
    assert_eq!(case.released.len(), 1);
}

/// The subflows of an MPTCP connection.
#[test]
fn sockets_that_share_a_file_share_its_owners() {
    let mut case = Case::new();
    case.world.start(10, &[9]);
    for socket in [5, 6] {
        let wanted = [(SocketId(socket), 9)].into_iter().collect();
        case.tell(SocketNews { wanted, gone: vec![] });
        case.settle();
    }
    assert_eq!(case.held.len(), 2);
    case.world.at(10).sockets.clear();
    case.wait(10);
    assert_eq!(case.released.len(), 2);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.start(11, &[2]);
    case.tick(&[1, 2], &[]);
    case.settle();
    case.world.start(10, &[3]);
    case.world.start(11, &[2]);
    case.tick(&[3], &[]);
    case.settle();
    assert_eq!((case.holders(1), case.holders(2), case.holders(3)), (vec![], vec![11], vec![10]));
    assert_eq!(case.processes.len(), 4);
    assert_eq!(case.released.len(), 2);
}

#[test]
fn a_pid_that_is_used_again_by_one_that_may_not_be_read_is_another_process() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.start(10, &[1]).is_denied = true;
    case.wait(10);
    assert_eq!(case.holders(1), NOBODY);
}

#[test]
fn a_process_that_may_no_longer_be_read_holds_what_it_held() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.at(10).is_denied = true;
    case.world.at(10).files += 1;
    case.wait(100);
    assert_eq!(case.holders(1), [10]);
    case.world.processes.remove(&10);
    case.wait(10);
    assert_eq!(case.holders(1), NOBODY);
}

#[test]
fn other_inode_numbers_of_proc_are_not_another_process() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.evict(10);
    case.wait(20);
    assert_eq!(case.holders(1), [10]);
    assert_eq!((case.processes.len(), case.released.len()), (1, 0));
}

#[test]
fn a_process_that_ends_while_it_is_read_owns_nothing() {
    let mut case = Case::new();
    case.world.start(10, &(1..=500).collect::<Vec<_>>()).is_ending = true;
    case.world.start(11, &[1]);
    case.tick(&[1, 2], &[]);
    case.settle();
    case.wait(10);
    assert_eq!(case.holders(1), [11]);
    assert_eq!(case.holders(2), NOBODY);
    assert_eq!(case.processes.len(), 1);
}

#[test]
fn a_list_that_fails_ends_no_process() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.world.start(11, &[2]);
    case.tick(&[1, 2], &[]);
    case.settle();
    case.world.is_unlistable = true;
    case.wait(30);
    assert_eq!(case.held.len(), 2);
    case.world.is_unlistable = false;
    case.world.processes.remove(&11);
    case.wait(30);
    assert_eq!((case.holders(1), case.holders(2)), (vec![10], vec![]));
}

#[test]
fn what_a_process_says_of_itself_is_kept_up() {
    let mut case = Case::new();
    case.world.start(10, &[1]);
    case.tick(&[1], &[]);
    case.settle();
    case.world.at(10).comm = "after exec";
    case.world.at(10).files += 1;
    case.wait(10);
    let names: Vec<_> = case.processes.values().map(|p| p.facts.comm.as_deref()).collect();
    assert_eq!(names, [Some("after exec")]);
}

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

#[test]
fn a_kernel_that_does_not_count_descriptors_is_asked_more_often() {
    let mut case = Case::new();
    case.world.counts_descriptors = false;
    for pid in 10..20 {
        case.world.start(pid, &[pid]);
    }
    case.tick(&(10..20).collect::<Vec<_>>(), &[]);
    case.settle();
    for inode in 100..120 {
        case.world.at(15).sockets.push(inode);
        case.tick(&[inode], &[]);
        case.wait(1);
        assert_eq!(case.holders(inode), [15]);
    }
    case.world.at(15).sockets.clear();
    case.wait(75);
    assert_eq!(case.held.len(), 9);
}

/// What a capture finds that goes on where an earlier one of the same boot ended.
#[test]
fn a_later_capture_goes_on_with_processes_and_ownerships() {
    let key = |pid, started_ticks| ProcessKey { pid, started_ticks };
    let held = |socket, process| Ownership {
        socket: SocketId(socket),
        process: ProcessId(process),
        since: SnapshotId(3),
    };
    let former = FormerOwners {
        processes: vec![
            (ProcessId(1), key(10, 10)),
            (ProcessId(2), key(11, 7)),
            (ProcessId(3), key(12, 30)),
        ],
        ownerships: vec![held(1, 1), held(1, 2), held(2, 1), held(3, 3), held(4, 1)],
        cgroups: Vec::new(),
    };
    let mut case = Case::after(former, 20);
    case.world.start(10, &[1]); // the same process, which let go of 2
    case.world.start(11, &[1]); // another one with this pid
    case.world.start(12, &[]).is_denied = true; // it may hold 3 still
    case.tick(&[1, 2, 3], &[]); // of 4 nothing is known yet
    case.settle();
    let mut kept: Vec<_> = case.held.iter().map(|((s, p), since)| (s.0, p.0, since.0)).collect();
    kept.sort_unstable();
    assert_eq!(kept, [(1, 1, 3), (1, 100, 20), (3, 3, 3), (4, 1, 3)]);
    let mut released: Vec<_> =
        case.released.iter().map(|(o, last)| (o.socket.0, o.process.0, last.0)).collect();
    released.sort_unstable();
    assert_eq!(released, [(1, 2, 19), (2, 1, 19)]);
}

/// Whatever happens, in the end it knows the truth.
#[test]
fn in_the_end_it_knows_the_truth() {
    for seed in 1..=60_u64 {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut case = Case::new();
        case.budget = Budget { looks: 1 + random.below(300) as usize, cpu_ns: 200_000 };
        let mut next_inode = 1;
        let mut living = Vec::new();
        for _ in 0..150 {
            for _ in 0..random.below(6) {
                happen(&mut case.world, &mut random, &mut next_inode);
            }
            let now_living = sockets_of(&case.world);
            let gone: Vec<_> = living.iter().copied().filter(|i| !now_living.contains(i)).collect();
            let new: Vec<_> = now_living.iter().copied().filter(|i| !living.contains(i)).collect();
            case.tick(&new, &gone);
            living = now_living;
            case.pass();
            case.now_ns += i64::try_from(random.below(2)).unwrap() * SECOND_NS;
        }
        case.wait(300);
        for inode in living {
            let truth: Vec<_> = case
                .world
                .processes
                .iter()
                .filter(|(_, p)| p.sockets.contains(&inode))
                .map(|(pid, _)| *pid)
                .collect();
            assert_eq!(case.holders(inode), truth, "socket {inode}, seed {seed}");
        }
    }
}

fn sockets_of(world: &World) -> Vec<u32> {
    let mut sockets: Vec<_> =
        world.processes.values().flat_map(|p| p.sockets.iter().copied()).collect();
    sockets.sort_unstable();
    sockets.dedup();
    sockets
}

fn happen(world: &mut World, random: &mut Random, next_inode: &mut u32) {
    let pid = 1 + u32::try_from(random.below(12)).unwrap();
    let sockets = world.processes.get(&pid).map(|p| p.sockets.clone());
    let (Some(sockets), event) = (sockets, random.below(8)) else {
        world.start(pid, &[]);
        return;
    };
    match event {
        0 => drop(world.processes.remove(&pid)),
        1 => {
            let child = 1 + u32::try_from(random.below(12)).unwrap();
            world.start(child, &sockets);
        }
        2 => drop(world.at(pid).sockets.pop()),
        3 => {
            // Another in its place.
            world.at(pid).sockets.pop();
            world.at(pid).sockets.push(*next_inode);
            *next_inode += 1;
        }
        4 => world.evict(pid),
        5 => world.at(pid).files += 1,
        _ => {
            world.at(pid).sockets.push(*next_inode);
            *next_inode += 1;
        }
    }
}
