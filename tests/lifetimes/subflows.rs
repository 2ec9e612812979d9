//! Subflows of MPTCP that no dump shows: the kernel disconnects them also when they are over, and their
//! events are those of an abort.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use socket2::Socket;

use crate::alone;
use crate::common::sockets::{Listener, Route};
use crate::common::{not_here, wait};
use crate::namespace::{Surroundings, in_own_namespace};
use crate::recording::{Rig, Row, User};

const CONNECTIONS: usize = 10;

/// Connections that exchange a byte each way and are closed by both ends, or aborted by the client. Nothing but
/// their TIME-WAIT is left.
fn play(listener: Listener, is_aborted: bool) {
    for _ in 0..CONNECTIONS {
        let client = listener.connect();
        let server = listener.accept();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to): (&Socket, &Socket) = (from, to);
            from.write_all(b"x").unwrap();
            to.read_exact(&mut [0]).unwrap();
        }
        if is_aborted {
            client.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        drop(server);
    }
    drop(listener);
    wait::until("every socket is freed", || {
        let sockets = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let states = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        states.into_iter().all(|state| state == "06")
    });
}

/// What is recorded of them by a recorder that dumps nothing while they are there.
fn recorded(listener: impl FnOnce() -> Listener, is_aborted: bool) -> Vec<Row> {
    let rig = Rig::new();
    let recorder = rig.start(User::Own, "--interval 1h");
    play(listener(), is_aborted);
    let mut rows = recorder.stop();
    rows.retain(|row| row.protocol == "tcp" && row.remote_port.is_none_or(|port| port != 0));
    rows
}

fn aborts(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.ending_evidence.as_deref() == Some("disconnected")).count()
}

#[test]
fn a_subflow_that_no_dump_showed_is_not_told_as_aborted() {
    let _alone = alone();
    in_own_namespace("subflows that no dump shows", |surroundings| {
        if surroundings == Surroundings::Shared {
            return; // that was said
        }
        let mptcp = || Listener::open_mptcp(Route::V4, 8);
        if let Err(e) = mptcp() {
            return not_here("subflows that no dump shows", &format!("there is no MPTCP: {e}"));
        }
        let rows = recorded(|| mptcp().unwrap(), false);
        assert!(rows.len() >= CONNECTIONS, "{rows:#?}");
        let reset: Vec<_> =
            rows.iter().filter(|row| row.ending.as_deref() == Some("reset")).collect();
        assert!(reset.is_empty(), "{reset:#?}");
        // A recorder that comes when they are gone knows that no other socket is one.
        let rows = recorded(|| Listener::open(Route::V4, 8), true);
        assert_eq!(aborts(&rows), CONNECTIONS, "{rows:#?}");
    });
}

#[test]
fn an_abort_that_no_dump_showed_is_told_where_there_are_no_subflows() {
    let _alone = alone();
    in_own_namespace("aborts that no dump shows", |surroundings| {
        let is_shared = surroundings == Surroundings::Shared;
        let rows = recorded(|| Listener::open(Route::V4, 8), true);
        assert!(is_shared || aborts(&rows) == CONNECTIONS, "{rows:#?}");
    });
}
