//! Who holds a socket is found, also whom it is passed on to, and until when it was held.

use sockrec::model::{HOLDERS_MAX, SnapshotId, SocketId};
use sockrec::record::SocketNews;

use crate::NOBODY;
use crate::made_up::{Case, SECOND_NS};

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
