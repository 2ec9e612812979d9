//! Arbitrary and damaged bytes: no panic, and no byte is lost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use sockrec::model::{Observation, Protocol};
use sockrec::wire::inet_diag::{Message, take_relative_times};
use sockrec::wire::netlink::{FrameKind, frame_at};

use crate::frames::{frames, netlink};
use crate::payloads::{
    BBRINFO, CGROUP_ID, CLASS_ID, CONG, DCTCPINFO, HEADER_LEN, INFO, MARK, MD5SIG, MEMINFO,
    MESSAGES, PAD, PROTOCOL, SHUTDOWN, SKMEMINFO, SKV6ONLY, SOCKOPT, TCLASS, TOS, ULP_INFO,
    VEGASINFO, attribute, fixture,
};

/// Whether all of an attribute's value stands in fields of the observation.
fn is_taken(kind: u16, value: &[u8]) -> bool {
    let len = value.len();
    match kind {
        INFO | ULP_INFO | PROTOCOL | PAD => true,
        SKMEMINFO => len <= 36 && len.is_multiple_of(4),
        MEMINFO | VEGASINFO | DCTCPINFO => len == 16,
        BBRINFO => len == 20,
        CONG => {
            let text = value.split(|b| *b == 0).next().unwrap_or_default();
            !text.is_empty() && std::str::from_utf8(text).is_ok()
        }
        TOS | TCLASS | SHUTDOWN | SKV6ONLY => len == 1,
        SOCKOPT => len == 2,
        MARK | CLASS_ID => len == 4,
        CGROUP_ID => len == 8,
        _ => false,
    }
}

/// The attributes that an observation has no other place for, and what is no attribute at all.
fn left_over(mut bytes: &[u8]) -> Vec<u8> {
    let mut taken = BTreeSet::new();
    let mut left = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & 0x3fff;
        if len < 4 || len > bytes.len() {
            break;
        }
        let (whole, behind) = bytes.split_at(len.next_multiple_of(4).min(bytes.len()));
        let value = &whole[4..len];
        if taken.contains(&kind) || !is_taken(kind, value) {
            let mut kept = whole.to_vec();
            if kind == MD5SIG {
                for entry in kept[4..].chunks_mut(100).filter(|entry| entry.len() > 20) {
                    entry[20..].fill(0);
                }
            }
            left.extend(kept);
        } else {
            taken.insert(kind);
        }
        bytes = behind;
    }
    left.extend(bytes);
    left
}

fn assert_no_byte_is_lost(payload: &[u8], protocol: Protocol) {
    let Ok(message) = Message::parse(payload) else {
        let mut bytes = payload.to_vec();
        take_relative_times(&mut bytes, protocol);
        return;
    };
    let o = message.observe(protocol);
    assert_eq!(o.unknown_attributes, left_over(&payload[HEADER_LEN..]));
    let tail = o.info_tail;
    assert!(tail.is_empty() || payload.windows(tail.len()).any(|bytes| bytes == tail));

    let mut once = payload.to_vec();
    take_relative_times(&mut once, protocol).absolute(0);
    let after = Message::parse(&once).unwrap();
    let known_after = Observation { info_tail: &[], ..after.observe(protocol) };
    assert_eq!(known_after, Observation { info_tail: &[], ..o });
    let mut twice = once.clone();
    take_relative_times(&mut twice, protocol);
    assert_eq!(once, twice);
    let changed = payload.iter().zip(&once).filter(|(before, after)| before != after);
    assert!(changed.count() <= 16);
}

prop_compose! {
    fn any_attribute()(
        kind in prop_oneof![0..32u16, any::<u16>()],
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..48),
            proptest::collection::vec(any::<u8>(), 0..400),
        ],
    ) -> Vec<u8> {
        attribute(kind, &value)
    }
}

prop_compose! {
    fn any_message()(
        header in proptest::collection::vec(any::<u8>(), HEADER_LEN),
        family in prop_oneof![Just(2u8), Just(10u8)],
        state in 0..16u8,
        attributes in proptest::collection::vec(any_attribute(), 0..12),
        rest in proptest::collection::vec(any::<u8>(), 0..8),
    ) -> Vec<u8> {
        let mut message = header;
        (message[0], message[1]) = (family, state);
        message.extend(attributes.concat());
        message.extend(rest);
        message
    }
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    proptest::sample::select(&Protocol::ALL[..])
}

/// A real message with some of its bytes overwritten.
fn any_damaged_message() -> impl Strategy<Value = (Vec<u8>, Protocol)> {
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (proptest::sample::select(&MESSAGES[..]), damage).prop_map(|((name, protocol), damage)| {
        let mut payload = fixture(name);
        for (index, byte) in damage {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        (payload, protocol)
    })
}

proptest! {
    #[test]
    fn no_byte_of_an_arbitrary_message_is_lost(
        message in any_message(),
        protocol in any_protocol(),
    ) {
        assert_no_byte_is_lost(&message, protocol);
    }

    #[test]
    fn no_byte_of_a_damaged_message_is_lost((message, protocol) in any_damaged_message()) {
        assert_no_byte_is_lost(&message, protocol);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        protocol in any_protocol(),
    ) {
        assert_no_byte_is_lost(&bytes, protocol);
    }

    #[test]
    fn an_arbitrary_datagram_is_walked_to_an_end(
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), 0..40u8, any::<u8>()], 0..200),
    ) {
        let mut offset = 0;
        while let Ok(Some(frame)) = frame_at(&bytes, offset) {
            prop_assert_eq!(frame.payload.start, offset + 16);
            prop_assert!(frame.payload.start <= frame.payload.end);
            prop_assert!(frame.payload.end <= frame.next && frame.next <= bytes.len());
            prop_assert!(frame.next - frame.payload.end < 4);
            offset = frame.next;
        }
    }







    #[test]
    fn frames_are_found_as_they_were_put_together(
        messages in proptest::collection::vec(
            (5..100u16, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)),
            0..8,
        ),
    ) {
        let datagram: Vec<u8> =
            messages.iter().flat_map(|(kind, seq, payload)| netlink(*kind, 0, *seq, payload)).collect();
        let found: Vec<_> = frames(&datagram)
            .unwrap()
            .into_iter()
            .map(|frame| match frame.kind {
                FrameKind::Payload(kind) => (kind, frame.sequence, datagram[frame.payload].to_vec()),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(found, messages);
    }
}
