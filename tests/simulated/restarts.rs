//! A recording that another capture goes on with: of the same boot, of another one, of other states.

use sockrec::model::{States, TcpState};
use sockrec::query::{Question, Recording};

use crate::lives;
use crate::socket::FakeSocket;
use crate::world::{SECOND, START_UTC, World, failed, interrupted};

#[test]
fn a_socket_that_outlives_the_recorder_goes_on_as_the_same_row() {
    let a = FakeSocket::established(1, 1_001, 80);
    let (b, gone) = (FakeSocket::established(2, 1_002, 80), FakeSocket::established(3, 1_003, 80));
    let mut world = World::default();
    world.shows(&[&a, &b, &gone]).shows(&[&a, &b, &gone]);
    world.record();
    let new = FakeSocket::established(4, 1_004, 80);
    world.goes_on_after(60 * SECOND);
    world.shows(&[&a.sent(50), &b.time_wait(), &new]).shows(&[&a.sent(50), &b.time_wait(), &new]);
    world.record();

    let columns = [
        "cookie",
        "state",
        "opened_after",
        "closed_before",
        "closed_evidence",
        "bytes_sent",
        "samples",
    ];
    let (gap_begins, proof) = (START_UTC + SECOND, START_UTC + 63 * SECOND + 1_000_000);
    assert_eq!(
        world.answer(Question::Connections, &columns),
        [
            "cookie=1 state=ESTAB opened_after=- closed_before=- closed_evidence=recording_end \
             bytes_sent=150 samples=2"
                .to_owned(),
            format!(
                "cookie=2 state=ESTAB opened_after=- closed_before={} closed_evidence=time_wait \
                 bytes_sent=100 samples=2",
                proof - SECOND
            ),
            format!(
                "cookie=3 state=ESTAB opened_after=- closed_before={proof} \
                 closed_evidence=absence bytes_sent=100 samples=1"
            ),
            // It was opened while nobody looked: not before the last look.
            format!(
                "cookie=4 state=ESTAB opened_after={gap_begins} closed_before=- \
                 closed_evidence=recording_end bytes_sent=100 samples=1"
            ),
        ]
    );
    assert_eq!(
        world.sql("SELECT snapshot_id, previous_snapshot_id FROM samples WHERE socket_id = 1"),
        ["1 -", "3 1"]
    );
    assert_eq!(world.sql("SELECT snapshot_id, socket_id, to_state FROM state_changes"), ["3 2 6"]);
    let seen = world.answer(Question::Connections, &["cookie", "last_seen_at"]);
    assert_eq!(seen[2], format!("cookie=3 last_seen_at={}", gap_begins + 1_000_000));
}

#[test]
fn a_cookie_that_has_other_addresses_after_the_gap_is_another_generation() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]);
    world.record();
    let again = FakeSocket { remote_port: 81, ..a.clone() };
    world.goes_on_after(SECOND).shows(&[&again]);
    world.record();
    assert_eq!(
        world.answer(Question::Connections, &["generation", "remote_port", "closed_evidence"]),
        [
            "generation=0 remote_port=80 closed_evidence=replaced",
            "generation=1 remote_port=81 closed_evidence=recording_end",
        ]
    );
}

#[test]
fn a_failed_first_dump_after_the_gap_ends_nothing() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]);
    world.record();
    world.goes_on_after(SECOND);
    world.ends(&[], interrupted).shows(&[]).ends(&[], failed).shows(&[&a]);
    world.record();
    assert_eq!(lives(&world), ["cookie=1 state=ESTAB closed_evidence=recording_end samples=2"]);
}

#[test]
fn a_capture_of_other_states_leaves_open_what_it_cannot_see() {
    let listener = FakeSocket::listener(1, 8_081, 0, 16);
    let mut world = World::default();
    world.shows(&[&listener]);
    world.record();
    world.states = States::only(TcpState::ESTABLISHED);
    world.goes_on_after(SECOND).shows(&[&listener]).shows(&[&listener]).shows(&[&listener]);
    world.record();
    assert_eq!(lives(&world), ["cookie=1 state=LISTEN closed_evidence=recording_end samples=1"]);
    world.states = States::ALL;
    world.goes_on_after(SECOND).shows(&[&listener]);
    world.record();
    assert_eq!(lives(&world), ["cookie=1 state=LISTEN closed_evidence=recording_end samples=2"]);
}

#[test]
fn a_new_boot_ends_everything_of_the_former_one() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]);
    world.record();
    // The same cookie and addresses, by chance: cookies start again at boot.
    world.goes_on_after(100 * SECOND).shows(&[&a]);
    world.boot_uuid = "00000000-0000-4000-8000-000000000002";
    world.record();
    assert_eq!(
        lives(&world),
        [
            "cookie=1 state=ESTAB closed_evidence=host_restart samples=1",
            "cookie=1 state=ESTAB closed_evidence=recording_end samples=1",
        ]
    );
}

#[test]
fn what_went_on_half_closed_ended_with_its_boot() {
    let a = FakeSocket::established(1, 1_001, 80).to_afar();
    let rest = a.time_wait_since(500).in_state(TcpState::FIN_WAIT2);
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&rest]).shows(&[&rest]);
    world.record();
    world.goes_on_after(100 * SECOND).shows(&[]);
    world.boot_uuid = "00000000-0000-4000-8000-000000000002";
    (world.begins.monotonic_ns, world.begins.boottime_ns) = (30 * SECOND, 30 * SECOND);
    world.record();
    assert_eq!(
        world.answer(Question::Connections, &["state", "closed_evidence", "duration_max_ns"]),
        ["state=FIN-WAIT-2 closed_evidence=host_restart duration_max_ns=-"]
    );
}

#[test]
fn what_had_ended_without_a_bound_is_over_with_its_boot() {
    // No dump shows what goes on half-closed, nor whether what left the recorded states lives on.
    let a = FakeSocket::established(1, 1_001, 80).to_afar().opened_at(1_400).fin_acked();
    let b = FakeSocket::established(2, 1_002, 80);
    let states = States::only(TcpState::ESTABLISHED);
    let mut world = World { states, ..World::with_events() };
    let freed = a.destroyed().looked_up_after(None);
    world.shows(&[&b]).shows(&[&b]).tells(&[freed]).shows(&[]).shows(&[]);
    world.record();
    let told = |world: &World| {
        world.answer(Question::Connections, &["cookie", "closed_evidence", "duration_max_ns"])
    };
    assert_eq!(
        told(&world),
        [
            "cookie=2 closed_evidence=left_scope duration_max_ns=-",
            "cookie=1 closed_evidence=recording_end duration_max_ns=-",
        ]
    );
    world.goes_on_after(100 * SECOND).shows(&[]);
    world.boot_uuid = "00000000-0000-4000-8000-000000000002";
    world.record();
    assert_eq!(
        told(&world),
        [
            "cookie=2 closed_evidence=host_restart duration_max_ns=-",
            "cookie=1 closed_evidence=host_restart duration_max_ns=-",
        ]
    );
}

#[test]
fn what_a_new_boot_ended_has_no_greatest_length() {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let (a, b) = (a.opened_at(1_000), b.opened_at(1_000));
    let mut world = World::default();
    world.shows(&[]).shows(&[&a, &b]).shows(&[&a, &b.time_wait()]);
    world.record();
    world.goes_on_after(100 * SECOND).shows(&[]);
    world.boot_uuid = "00000000-0000-4000-8000-000000000002";
    (world.begins.monotonic_ns, world.begins.boottime_ns) = (30 * SECOND, 30 * SECOND);
    world.record();
    let columns = ["cookie", "duration_min_ns", "duration_max_ns", "time_wait_max_ns"];
    let (at_least, at_most) = (SECOND - 1_000_000, 2 * SECOND + 1_000_000);
    assert_eq!(
        world.answer(Question::Connections, &columns),
        [
            format!("cookie=1 duration_min_ns={at_least} duration_max_ns=- time_wait_max_ns=-"),
            format!("cookie=2 duration_min_ns=0 duration_max_ns={at_most} time_wait_max_ns=-"),
        ]
    );
}

#[test]
fn a_clock_that_was_set_back_between_two_captures_is_known() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&a]).shows(&[&a]);
    world.record();
    world.goes_on_after(SECOND).shows(&[&a]).shows(&[&a]);
    world.begins.utc_ns -= 600 * SECOND;
    world.record();
    let recording = Recording::open(&world.path()).unwrap();
    let now = world.begins.utc_ns + 2 * SECOND;
    assert_eq!(recording.snapshot_at(now).unwrap(), Some(5));
    assert_eq!(recording.snapshot_at(START_UTC + 2 * SECOND).unwrap(), Some(5), "the later pass");
    let twice = world.begins.utc_ns + 2 * SECOND;
    assert_eq!(recording.notes_at(twice, 5).unwrap().len(), 1);
}
