//! The messages of a datagram.

use std::collections::BTreeSet;

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;

use sockrec::model::TcpState;
use sockrec::wire::WireError;
use sockrec::wire::inet_diag::Message;
use sockrec::wire::netlink::{Frame, FrameKind, frame_at};

use crate::payloads::{fixture, set_u32};

pub(crate) const REPLIES: [&[&str]; 5] = [
    &["datagram-udp4-1", "datagram-udp4-2"],
    &["datagram-tcp4-listen-1", "datagram-tcp4-listen-2", "datagram-tcp4-listen-3"],
    &["datagram-empty"],
    &["datagram-no-raw"],
    &["datagram-bad-family"],
];

pub(crate) fn frames(datagram: &[u8]) -> Result<Vec<Frame>, WireError> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut offset = 0;
    while let Some(frame) = frame_at(datagram, offset)? {
        offset = frame.next;
        frames.push(frame);
    }
    Ok(frames)
}

pub(crate) fn kinds(datagram: &[u8]) -> Vec<FrameKind> {
    frames(datagram).unwrap().into_iter().map(|frame| frame.kind).collect()
}

/// One netlink message with its padding.
pub(crate) fn netlink(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
pub(crate) fn every_message_of_a_datagram_is_found_up_to_the_end_of_the_dump() {
    let payload = FrameKind::Payload(SOCK_DIAG_BY_FAMILY);
    assert_eq!(kinds(&fixture("datagram-udp4-1")), [payload; 2]);
    assert_eq!(kinds(&fixture("datagram-udp4-2")), [FrameKind::Done(0)]);
    assert_eq!(kinds(&fixture("datagram-tcp4-listen-1")), [payload; 7]);
    assert_eq!(kinds(&fixture("datagram-tcp4-listen-2")), [payload; 2]);
    assert_eq!(kinds(&fixture("datagram-tcp4-listen-3")), [FrameKind::Done(0)]);
    assert_eq!(kinds(&fixture("datagram-empty")), [FrameKind::Done(0)]);
}

#[test]
pub(crate) fn the_messages_of_a_real_reply_are_the_sockets() {
    let datagram = fixture("datagram-tcp4-listen-1");
    let mut ports = BTreeSet::new();
    for frame in frames(&datagram).unwrap() {
        assert!(frame.multipart && !frame.interrupted);
        assert_eq!(frame.sequence, 7);
        let message = Message::parse(&datagram[frame.payload]).unwrap();
        assert_eq!(message.state(), TcpState::LISTEN);
        ports.insert(message.tuple().local.port);
    }
    assert_eq!(ports.len(), 7);
}

#[test]
pub(crate) fn a_dump_that_fails_at_its_end_says_so() {
    assert_eq!(kinds(&fixture("datagram-no-raw")), [FrameKind::Done(-2)]);
}

#[test]
pub(crate) fn a_refused_request_is_an_error() {
    let datagram = fixture("datagram-bad-family");
    let frame = frame_at(&datagram, 0).unwrap().unwrap();
    assert_eq!(frame.kind, FrameKind::Error(-22));
    assert!(!frame.multipart);
}

#[test]
pub(crate) fn an_acknowledgment_is_no_failure() {
    assert_eq!(kinds(&netlink(NLMSG_ERROR, 0, 1, &[0; 20])), [FrameKind::Error(0)]);
}

#[test]
pub(crate) fn an_end_or_error_without_its_status_is_an_error() {
    for kind in [NLMSG_DONE, NLMSG_ERROR] {
        for len in 0..4 {
            let datagram = netlink(kind, 0, 1, &[0; 4][..len]);
            assert_eq!(
                frame_at(&datagram, 0),
                Err(WireError::TooShort { needed: 4, got: len }),
                "{kind}"
            );
        }
    }
}

#[test]
pub(crate) fn every_kind_of_message_is_told_apart_in_one_datagram() {
    let datagram = [
        netlink(NLMSG_NOOP, 0, 3, &[]),
        netlink(SOCK_DIAG_BY_FAMILY, NLM_F_MULTIPART, 3, &[9; 5]),
        netlink(NLMSG_OVERRUN, 0, 3, &[1, 2, 3, 4]),
        netlink(21, NLM_F_MULTIPART | NLM_F_DUMP_INTR, 0, &[]),
        netlink(NLMSG_DONE, NLM_F_MULTIPART, 3, &(-105i32).to_ne_bytes()),
    ]
    .concat();
    assert_eq!(
        kinds(&datagram),
        [
            FrameKind::Noop,
            FrameKind::Payload(SOCK_DIAG_BY_FAMILY),
            FrameKind::Overrun,
            FrameKind::Payload(21),
            FrameKind::Done(-105),
        ]
    );
    let frames = frames(&datagram).unwrap();
    assert_eq!(datagram[frames[1].payload.clone()], [9; 5]);
    assert_eq!(frames[1].next, 16 + 24);
    assert_eq!(frames.iter().map(|f| f.sequence).collect::<Vec<_>>(), [3, 3, 3, 0, 3]);
    let interrupted: Vec<bool> = frames.iter().map(|f| f.interrupted).collect();
    assert_eq!(interrupted, [false, false, false, true, false]);
    let multipart: Vec<bool> = frames.iter().map(|f| f.multipart).collect();
    assert_eq!(multipart, [false, true, false, true, true]);
}

#[test]
pub(crate) fn a_frame_whose_length_lies_is_an_error() {
    let honest = fixture("datagram-udp4-1");
    for lie in [0, 1, 15, 401, u32::MAX] {
        let mut datagram = honest.clone();
        set_u32(&mut datagram, 0, lie);
        assert_eq!(
            frame_at(&datagram, 0),
            Err(WireError::BadLength { claimed: lie as usize, available: 400 })
        );
    }
    let mut second = honest;
    set_u32(&mut second, 200, 201);
    assert!(frame_at(&second, 0).unwrap().is_some());
    assert_eq!(frame_at(&second, 200), Err(WireError::BadLength { claimed: 201, available: 200 }));
}

#[test]
pub(crate) fn a_datagram_cut_anywhere_ends_in_an_error_or_between_messages() {
    for name in REPLIES.concat() {
        let whole = fixture(name);
        let expected = frames(&whole).unwrap();
        for len in 0..whole.len() {
            match frames(&whole[..len]) {
                Ok(found) => {
                    assert_eq!(found, expected[..found.len()], "{name} {len}");
                    assert_eq!(found.last().map_or(0, |frame| frame.next), len, "{name}");
                }
                Err(WireError::TooShort { needed: 16, got }) => assert!(got < 16),
                Err(WireError::BadLength { claimed, available }) => assert!(claimed > available),
                Err(e) => panic!("{name} {len}: {e}"),
            }
        }
    }
}

#[test]
pub(crate) fn the_last_message_may_lack_its_padding() {
    let mut datagram = netlink(SOCK_DIAG_BY_FAMILY, 0, 1, &[9; 5]);
    datagram.truncate(21);
    let frame = frame_at(&datagram, 0).unwrap().unwrap();
    assert_eq!((frame.payload, frame.next), (16..21, 21));
    assert_eq!(frame_at(&datagram, 21), Ok(None));
}

#[test]
pub(crate) fn behind_a_datagram_there_is_nothing() {
    assert_eq!(frame_at(&[], 0), Ok(None));
    assert_eq!(frame_at(&[0; 16], 17), Ok(None));
    assert_eq!(frame_at(&[0; 16], usize::MAX), Ok(None));
}
