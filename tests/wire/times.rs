//! The kernel's "so long ago" and "in so long".

use std::ops::Range;

use sockrec::model::{ActivityTimes, Protocol, TcpState, Timer};
use sockrec::wire::inet_diag::{RelativeTimes, take_relative_times};

use crate::payloads::{
    HEADER_LEN, INFO, MESSAGES, attributes, changed, fixture, observe, set_u32, times_of, value_of,
};

#[test]
fn relative_times_become_moments_of_the_monotonic_clock() {
    let payload = fixture("tcp4-established");
    let info = value_of(&payload, INFO);
    let word = |bytes: &[u8], offset: usize| {
        i64::from(u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap()))
    };
    let read_at_ms = 10_000_000;
    assert_eq!(
        times_of(payload.clone(), Protocol::Tcp, read_at_ms),
        ActivityTimes {
            timer_expires_at_ms: Some(read_at_ms + word(&payload, 52)),
            last_data_sent_at_ms: Some(read_at_ms - word(&info, 44)),
            last_data_recv_at_ms: Some(read_at_ms - word(&info, 52)),
            last_ack_recv_at_ms: Some(read_at_ms - word(&info, 56)),
        }
    );
}

#[test]
fn taking_relative_times_zeroes_them_and_nothing_else() {
    for (name, protocol) in MESSAGES {
        let before = fixture(name);
        let mut after = before.clone();
        take_relative_times(&mut after, protocol);
        let mut expected = before.clone();
        set_u32(&mut expected, 52, 0);
        if attributes(&before).iter().any(|(kind, _)| *kind == INFO) {
            expected = changed(&expected, INFO, |info| {
                let words = if protocol == Protocol::Mptcp { [84, 88, 92] } else { [44, 52, 56] };
                words.into_iter().for_each(|offset| set_u32(info, offset, 0));
            });
        }
        assert_eq!(after, expected, "{name}");
        assert_eq!(observe(&after, protocol), observe(&before, protocol), "{name}");
    }
}

#[test]
fn taking_relative_times_twice_leaves_the_same_bytes() {
    for (name, protocol) in MESSAGES {
        let mut once = fixture(name);
        take_relative_times(&mut once, protocol);
        let mut twice = once.clone();
        take_relative_times(&mut twice, protocol);
        assert_eq!(once, twice, "{name}");
    }
}

#[test]
fn two_messages_of_an_idle_socket_are_the_same_bytes_without_their_times() {
    let (mut earlier, mut later) = (fixture("tcp4-established"), fixture("tcp4-established-later"));
    assert_ne!(earlier, later);
    let earlier_times = take_relative_times(&mut earlier, Protocol::Tcp);
    let later_times = take_relative_times(&mut later, Protocol::Tcp);
    assert_eq!(earlier, later);
    // The moments were the same and time had passed.
    let passed_ms = earlier_times.absolute(0).last_data_sent_at_ms.unwrap()
        - later_times.absolute(0).last_data_sent_at_ms.unwrap();
    let (earlier, later) = (earlier_times.absolute(0), later_times.absolute(passed_ms));
    assert!((1400..2000).contains(&passed_ms), "{passed_ms}");
    for (earlier, later) in [
        (earlier.timer_expires_at_ms, later.timer_expires_at_ms),
        (earlier.last_data_recv_at_ms, later.last_data_recv_at_ms),
        (earlier.last_ack_recv_at_ms, later.last_ack_recv_at_ms),
    ] {
        // Jiffies of 4 ms are rounded up here and down there.
        assert!((earlier.unwrap() - later.unwrap()).abs() <= 12, "{earlier:?} {later:?}");
    }
    assert_eq!(fixture("tcp4-listen"), fixture("tcp4-listen-later"));
}

#[test]
fn a_timer_that_is_overdue_expires_now() {
    let expires = |ms: u32| {
        let mut payload = fixture("tcp4-established");
        set_u32(&mut payload, 52, ms);
        times_of(payload, Protocol::Tcp, 5_000).timer_expires_at_ms
    };
    assert_eq!(expires(0), Some(5_000));
    assert_eq!(expires((1 << 31) - 1), Some(5_000 + i64::from(i32::MAX)));
    assert_eq!(expires(1 << 31), Some(5_000));
    assert_eq!(expires(u32::MAX - 3), Some(5_000));
}

#[test]
fn without_a_timer_nothing_expires() {
    let mut payload = fixture("tcp4-established");
    payload[2] = Timer::OFF.0;
    assert_eq!(times_of(payload, Protocol::Tcp, 1).timer_expires_at_ms, None);
}

#[test]
fn mini_sockets_have_no_time_but_their_timer() {
    for name in ["tcp4-time-wait", "tcp4-fin-wait2-mini", "tcp4-syn-recv"] {
        let times = times_of(fixture(name), Protocol::Tcp, 0);
        assert!(times.timer_expires_at_ms.is_some_and(|ms| ms > 0 && ms < 60_000), "{name}");
        assert_eq!(ActivityTimes { timer_expires_at_ms: None, ..times }, ActivityTimes::default());
    }
}

#[test]
fn listeners_have_no_activity() {
    for name in ["tcp4-listen", "tcp6-listen-dual-stack", "tcp6-listen-v6only"] {
        assert_eq!(times_of(fixture(name), Protocol::Tcp, 1), ActivityTimes::default(), "{name}");
    }
    let mut payload = fixture("tcp4-established");
    (payload[1], payload[2]) = (TcpState::LISTEN.0, Timer::OFF.0);
    assert_eq!(times_of(payload, Protocol::Tcp, 1), ActivityTimes::default());
}

#[test]
fn before_any_data_there_is_no_moment_of_it() {
    let times = times_of(fixture("tcp4-not-accepted"), Protocol::Tcp, 1_000_000);
    assert_eq!((times.last_data_sent_at_ms, times.last_data_recv_at_ms), (None, None));
    assert!(times.last_ack_recv_at_ms.is_some());

    let times = times_of(fixture("tcp4-window-full"), Protocol::Tcp, 1_000_000);
    assert!(times.last_data_sent_at_ms.is_some());
    assert_eq!(times.last_data_recv_at_ms, None);

    // A FIN alone is counted as a byte received.
    let only_fin = changed(&fixture("tcp4-not-accepted"), INFO, |info| set_u32(info, 128, 1));
    assert_eq!(times_of(only_fin, Protocol::Tcp, 1).last_data_recv_at_ms, None);
}

#[test]
fn before_the_handshake_there_is_no_activity() {
    // The kernel counts from boot here, also when a segment came that was no answer.
    let syn_sent = fixture("tcp4-syn-sent");
    let not_an_answer = changed(&syn_sent, INFO, |info| set_u32(info, 140, 1));
    for payload in [syn_sent, not_an_answer] {
        let times = times_of(payload, Protocol::Tcp, 1_000_000);
        assert!(times.timer_expires_at_ms.is_some());
        assert_eq!(ActivityTimes { timer_expires_at_ms: None, ..times }, ActivityTimes::default());
    }
}

#[test]
fn an_mptcp_connection_has_times_of_its_own() {
    let payload = fixture("mptcp4-established");
    let times = times_of(payload.clone(), Protocol::Mptcp, 1_000_000);
    for moment in
        [times.last_data_sent_at_ms, times.last_data_recv_at_ms, times.last_ack_recv_at_ms]
    {
        assert!(moment.is_some_and(|at| (990_000..1_000_000).contains(&at)), "{times:?}");
    }

    let without = |counter: Range<usize>| {
        times_of(changed(&payload, INFO, |info| info[counter].fill(0)), Protocol::Mptcp, 1_000_000)
    };
    let sent_nothing = ActivityTimes { last_data_sent_at_ms: None, ..times };
    let received_nothing = ActivityTimes { last_data_recv_at_ms: None, ..times };
    let heard_nothing = ActivityTimes { last_ack_recv_at_ms: None, ..times };
    assert_eq!(without(56..64), sent_nothing);
    assert_eq!(without(64..72), received_nothing);
    assert_eq!(without(72..80), heard_nothing);
}

#[test]
fn bytes_too_few_for_a_header_have_no_times() {
    let mut payload = fixture("tcp4-established");
    payload.truncate(HEADER_LEN - 1);
    let before = payload.clone();
    assert_eq!(take_relative_times(&mut payload, Protocol::Tcp), RelativeTimes::default());
    assert_eq!(payload, before);
}
