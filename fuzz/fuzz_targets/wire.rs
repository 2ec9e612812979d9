//! Arbitrary bytes as a netlink datagram and as one message: no panic, nothing read beyond the
//! end, and no attribute lost.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;

use sockrec::model::Protocol;
use sockrec::wire::inet_diag::{Message, take_relative_times};
use sockrec::wire::netlink::{FrameKind, frame_at};

const HEADER_LEN: usize = 72;
const ATTRIBUTE_HEADER_LEN: usize = 4;
const MD5SIG: u16 = 18;
/// Attributes that an observation may have fields for (include/uapi/linux/inet_diag.h).
const KNOWN: [u16; 18] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 19, 21, 22];

// The seeds are datagrams and single messages alike, so every input is taken as both.
fuzz_target!(|input: &[u8]| {
    check_datagram(input);
    check_message(input);
});

fn check_datagram(datagram: &[u8]) {
    let mut offset = 0;
    while let Ok(Some(frame)) = frame_at(datagram, offset) {
        assert_eq!(frame.payload.start, offset + 16);
        assert!(frame.payload.start <= frame.payload.end);
        assert!(frame.payload.end <= frame.next);
        assert!(frame.next <= datagram.len());
        if let FrameKind::Payload(_) = frame.kind {
            check_message(&datagram[frame.payload]);
        }
        offset = frame.next;
    }
}

fn check_message(payload: &[u8]) {
    // The other protocols are read as TCP is.
    for protocol in [Protocol::Tcp, Protocol::Mptcp] {
        check_times(payload, protocol);
        check_observation(payload, protocol);
    }
}

fn check_times(payload: &[u8], protocol: Protocol) {
    let mut once = payload.to_vec();
    let _ = take_relative_times(&mut once, protocol).absolute(0);
    let changed = || payload.iter().zip(&once).filter(|(before, after)| before != after);
    assert!(changed().all(|(_, after)| *after == 0));
    assert!(changed().count() <= 4 * size_of::<u32>());

    let mut twice = once.clone();
    let _ = take_relative_times(&mut twice, protocol);
    assert_eq!(once, twice);

    if let (Ok(before), Ok(after)) = (Message::parse(payload), Message::parse(&once)) {
        let (before, mut after) = (before.observe(protocol), after.observe(protocol));
        // The tail of a structure that ends among its times holds them.
        after.info_tail = before.info_tail;
        assert_eq!(before, after);
    }
}

fn check_observation(payload: &[u8], protocol: Protocol) {
    let Ok(message) = Message::parse(payload) else { return };
    let o = message.observe(protocol);
    assert_eq!(o.tuple, message.tuple());
    assert_eq!(o.is_mini, message.is_mini());
    assert!(!o.is_mini || (o.uid.is_none() && o.inode.is_none() && o.rqueue.is_none()));

    let mut kept = &o.unknown_attributes[..];
    let mut taken = HashSet::new();
    let mut rest = &payload[HEADER_LEN..];
    while let Some((kind, whole, behind)) = split_attribute(rest) {
        if starts_with_attribute(kept, kind, whole) {
            kept = &kept[whole.len()..];
        } else {
            assert!(KNOWN.contains(&kind), "lost attribute {kind}");
            assert!(taken.insert(kind), "lost a second attribute {kind}");
        }
        rest = behind;
    }
    assert_eq!(kept, rest);
}

/// Type of the first attribute, its bytes with header and padding, and what follows.
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let header: [u8; ATTRIBUTE_HEADER_LEN] = *bytes.first_chunk()?;
    let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
    if len < ATTRIBUTE_HEADER_LEN || len > bytes.len() {
        return None;
    }
    let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
    let (whole, behind) = bytes.split_at(len.next_multiple_of(4).min(bytes.len()));
    Some((kind, whole, behind))
}

fn starts_with_attribute(kept: &[u8], kind: u16, whole: &[u8]) -> bool {
    if kind == MD5SIG {
        // Its keys are zeroed.
        return kept.len() >= whole.len() && kept.starts_with(&whole[..ATTRIBUTE_HEADER_LEN]);
    }
    kept.starts_with(whole)
}
