//! Processes that are not what they were, or cannot be read, and what a later capture finds of them.

use sockrec::model::{Ownership, ProcessId, ProcessKey, SnapshotId, SocketId};
use sockrec::store::FormerOwners;

use crate::NOBODY;
use crate::made_up::Case;

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
