//! Attributes in any order and number, unknown ones, and lengths that lie.

use sockrec::model::{Observation, Protocol, TcpState, Timer};
use sockrec::wire::WireError;
use sockrec::wire::inet_diag::{Message, take_relative_times};

use crate::layout::{TCP_INFO_LEN, distinct_bytes, distinct_tcp_info};
use crate::payloads::{
    BBRINFO, CGROUP_ID, CLASS_ID, CONG, DCTCPINFO, FUTURE, HEADER_LEN, INFO, MARK, MD5SIG,
    MESSAGES, PAD, PROTOCOL, SHUTDOWN, SKV6ONLY, SOCKOPT, TCLASS, TOS, VEGASINFO, attribute,
    attributes, fixture, observe, observe_tcp, times_of, value_of, with_attributes, with_one,
};

#[test]
fn the_order_of_attributes_does_not_matter() {
    for (name, protocol) in MESSAGES {
        let whole = fixture(name);
        let expected = observe(&whole, protocol);
        let expected_times = times_of(whole.clone(), protocol, 1_000_000);
        let in_order = attributes(&whole);
        for turn in 0..in_order.len() {
            let mut turned = in_order.clone();
            turned.rotate_left(turn);
            for reversed in [false, true] {
                if reversed {
                    turned.reverse();
                }
                let payload = with_attributes(&whole, &turned);
                assert_eq!(observe(&payload, protocol), expected, "{name} {turn} {reversed}");
                assert_eq!(times_of(payload, protocol, 1_000_000), expected_times, "{name}");
            }
        }
    }
}

#[test]
fn unknown_attributes_are_kept_byte_for_byte() {
    let mut payload = fixture("tcp4-established");
    let known = observe_tcp(&payload).tcp;
    // A nested one and one that ends without padding among them.
    let mut added = attribute(FUTURE, b"new in Linux 8");
    added.extend(attribute(0x8000 | FUTURE, &attribute(1, b"nested")));
    added.extend(attribute(0x3fff, b""));
    added.extend([&7u16.to_ne_bytes()[..], &FUTURE.to_ne_bytes(), b"end"].concat());
    payload.extend(&added);
    let o = observe_tcp(&payload);
    assert_eq!(o.unknown_attributes, added);
    assert_eq!(o.tcp, known);
}

#[test]
fn a_known_attribute_of_another_length_is_kept_and_not_read() {
    let header = fixture("tcp4-established");
    let fixed_lengths = [
        (TOS, 1),
        (TCLASS, 1),
        (SHUTDOWN, 1),
        (SKV6ONLY, 1),
        (MARK, 4),
        (CLASS_ID, 4),
        (CGROUP_ID, 8),
        (SOCKOPT, 2),
    ];
    for (kind, len) in fixed_lengths {
        for wrong in [0, len - 1, len + 1, len + 4] {
            if wrong == len {
                continue;
            }
            let value = distinct_bytes(wrong);
            let payload = with_one(&header, kind, &value);
            let o = observe_tcp(&payload);
            assert_eq!(o.unknown_attributes, attribute(kind, &value), "{kind} of {wrong} bytes");
            let nothing = header[..HEADER_LEN].to_vec();
            let expected = observe_tcp(&nothing);
            assert_eq!(
                Observation { unknown_attributes: Vec::new(), ..o },
                expected,
                "{kind} of {wrong} bytes"
            );
        }
    }
}

#[test]
fn details_longer_than_known_are_read_as_far_as_known_and_kept_whole() {
    // BBR version 3 sends a longer structure than the BBR of Linux.
    let header = fixture("tcp4-established");
    for (kind, len) in [(VEGASINFO, 16), (DCTCPINFO, 16), (BBRINFO, 20)] {
        let value = distinct_bytes(len + 8);
        let short = with_one(&header, kind, &value[..len]);
        let long = with_one(&header, kind, &value);
        let (short, long) = (observe_tcp(&short), observe_tcp(&long));
        assert!(long.congestion.is_some());
        assert_eq!(long.congestion, short.congestion);
        assert!(short.unknown_attributes.is_empty());
        assert_eq!(long.unknown_attributes, attribute(kind, &value));
        let cut = with_one(&header, kind, &value[..len - 1]);
        let cut = observe_tcp(&cut);
        assert_eq!(cut.congestion, None);
        assert_eq!(cut.unknown_attributes, attribute(kind, &value[..len - 1]));
    }
}

#[test]
fn a_name_that_is_no_text_is_kept_and_not_read() {
    let header = fixture("tcp4-established");
    for name in [&b"\xff\xfe\0"[..], b"", b"\0"] {
        let payload = with_one(&header, CONG, name);
        let o = observe_tcp(&payload);
        assert_eq!(o.congestion_control, None);
        assert_eq!(o.unknown_attributes, attribute(CONG, name));
    }
    let unterminated = with_one(&header, CONG, b"cubic");
    assert_eq!(observe_tcp(&unterminated).congestion_control, Some("cubic"));
}

#[test]
fn the_first_of_two_attributes_of_a_kind_holds_and_the_other_is_kept() {
    let whole = fixture("tcp4-established");
    let expected_times = times_of(whole.clone(), Protocol::Tcp, 1_000_000);
    for (kind, value) in attributes(&whole) {
        let second: Vec<u8> = value.iter().map(|b| b ^ 0x15).collect();
        let mut payload = whole.clone();
        payload.extend(attribute(kind, &second));
        let mut expected = observe_tcp(&whole);
        expected.unknown_attributes = attribute(kind, &second);
        assert_eq!(observe_tcp(&payload), expected, "{kind}");

        let times = take_relative_times(&mut payload, Protocol::Tcp);
        assert_eq!(times.absolute(1_000_000), expected_times, "{kind}");
        assert!(payload.ends_with(&attribute(kind, &second)), "{kind}");
    }
}

#[test]
fn padding_and_the_protocol_are_nothing_to_keep() {
    let header = fixture("tcp4-established");
    let padded = [(PAD, vec![]), (INFO, distinct_tcp_info(TCP_INFO_LEN)), (PROTOCOL, vec![6])];
    let payload = with_attributes(&header, &padded);
    let o = observe_tcp(&payload);
    let bare = with_one(&header, INFO, &distinct_tcp_info(TCP_INFO_LEN));
    assert_eq!(o, observe_tcp(&bare));
}

#[test]
fn tcp_md5_keys_do_not_outlive_the_message() {
    let payload = fixture("tcp4-md5-listen");
    assert!(payload.windows(12).any(|bytes| bytes == b"fixture key!"));
    let mut without_key = value_of(&payload, MD5SIG);
    without_key[20..].fill(0);
    assert_eq!(without_key[..8], [2, 32, 12, 0, 127, 0, 0, 9]);
    assert_eq!(observe_tcp(&payload).unknown_attributes, attribute(MD5SIG, &without_key));

    let two_keys = [value_of(&payload, MD5SIG), value_of(&payload, MD5SIG)].concat();
    let payload = with_attributes(&payload, &[(FUTURE, vec![1; 6]), (MD5SIG, two_keys)]);
    let expected =
        [attribute(FUTURE, &[1; 6]), attribute(MD5SIG, &[&without_key[..], &without_key].concat())];
    assert_eq!(observe_tcp(&payload).unknown_attributes, expected.concat());
}

#[test]
fn what_follows_an_attribute_that_lies_about_its_length_is_kept_as_it_came() {
    let whole = fixture("tcp4-established");
    let expected = observe_tcp(&whole);
    for lie in [0u16, 1, 3, 9, 0xffff] {
        let mut payload = whole.clone();
        let mut rest = [lie.to_ne_bytes(), INFO.to_ne_bytes()].concat();
        rest.extend([0xee; 4]);
        payload.extend(&rest);
        let o = observe_tcp(&payload);
        assert_eq!(o.unknown_attributes, rest, "{lie}");
        assert_eq!(Observation { unknown_attributes: Vec::new(), ..o }, expected, "{lie}");
        let before = payload.clone();
        take_relative_times(&mut payload, Protocol::Tcp);
        assert!(payload.ends_with(&rest) && payload.len() == before.len(), "{lie}");
    }
    for len in 1..4 {
        let mut payload = whole.clone();
        payload.extend(vec![7; len]);
        assert_eq!(observe_tcp(&payload).unknown_attributes, vec![7; len]);
    }
}

#[test]
fn unknown_states_and_timers_survive() {
    for state in 0..=u8::MAX {
        let mut payload = fixture("tcp4-established");
        (payload[1], payload[2]) = (state, state);
        let o = observe_tcp(&payload);
        assert_eq!((o.state, o.timer), (TcpState(state), Timer(state)));
        assert_eq!(Message::parse(&payload).unwrap().state(), TcpState(state));
    }
}

#[test]
fn unknown_families_are_errors() {
    for family in (0..=u8::MAX).filter(|family| ![2, 10].contains(family)) {
        let mut payload = fixture("tcp4-established");
        payload[0] = family;
        assert_eq!(Message::parse(&payload).unwrap_err(), WireError::UnknownFamily(family));
    }
}
