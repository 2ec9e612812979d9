//! The same bytes read by the netlink-packet crates.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload, Parseable};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{InetResponse, Timer as OracleTimer};
use netlink_packet_sock_diag::{SOCK_DIAG_BY_FAMILY, SockDiagMessage};

use sockrec::model::{SocketMemory, Timer};
use sockrec::wire::inet_diag::Message;
use sockrec::wire::netlink::FrameKind;

use crate::frames::{REPLIES, frames};
use crate::payloads::{MESSAGES, fixture, observe};

#[test]
fn headers_agree_with_those_of_netlink_packet_sock_diag() {
    for (name, protocol) in MESSAGES {
        let payload = fixture(name);
        let o = observe(&payload, protocol);
        let header = InetResponse::parse(&payload[..]).unwrap().header;
        assert_eq!(o.family.number(), header.family, "{name}");
        assert_eq!(o.state.0, header.state, "{name}");
        assert_eq!(o.tuple.local.address, header.socket_id.source_address, "{name}");
        assert_eq!(o.tuple.local.port, header.socket_id.source_port, "{name}");
        assert_eq!(o.tuple.remote.address, header.socket_id.destination_address, "{name}");
        assert_eq!(o.tuple.remote.port, header.socket_id.destination_port, "{name}");
        assert_eq!(o.tuple.interface, header.socket_id.interface_id, "{name}");
        assert_eq!(o.cookie.to_ne_bytes(), header.socket_id.cookie, "{name}");
        assert_eq!(o.rqueue.unwrap_or(0), header.recv_queue, "{name}");
        assert_eq!(o.wqueue.unwrap_or(0), header.send_queue, "{name}");
        assert_eq!(o.uid.unwrap_or(0), header.uid, "{name}");
        assert_eq!(o.inode.unwrap_or(0), header.inode, "{name}");
        let timer = match header.timer {
            None => Timer::OFF,
            Some(OracleTimer::Retransmit(_, count)) => {
                assert_eq!(o.timer_retransmits, count, "{name}");
                Timer::ON
            }
            Some(OracleTimer::KeepAlive(_)) => Timer::KEEPALIVE,
            Some(OracleTimer::TimeWait) => Timer::TIMEWAIT,
            Some(OracleTimer::Probe(_)) => Timer::PERSIST,
        };
        assert_eq!(o.timer, timer, "{name}");
    }
}

#[test]
fn attributes_agree_with_those_of_netlink_packet_sock_diag() {
    for (name, protocol) in MESSAGES {
        let payload = fixture(name);
        let o = observe(&payload, protocol);
        for nla in InetResponse::parse(&payload[..]).unwrap().nlas {
            match nla {
                Nla::Congestion(algorithm) => {
                    assert_eq!(o.congestion_control, Some(&*algorithm), "{name}");
                }
                Nla::Tos(tos) => assert_eq!(o.tos, Some(tos), "{name}"),
                Nla::Tc(tclass) => assert_eq!(o.tclass, Some(tclass), "{name}"),
                Nla::Shutdown(shutdown) => assert_eq!(o.shutdown, Some(shutdown), "{name}"),
                Nla::SkV6Only(v6only) => assert_eq!(o.v6only, Some(v6only), "{name}"),
                Nla::Mark(mark) => assert_eq!(o.mark, Some(mark), "{name}"),
                Nla::ClassId(class_id) => assert_eq!(o.class_id, Some(class_id), "{name}"),
                Nla::MemInfo(memory) => {
                    let expected = SocketMemory {
                        rmem_alloc_bytes: Some(memory.receive_queue),
                        rcvbuf_bytes: Some(memory.receive_queue_max),
                        wmem_alloc_bytes: Some(memory.bottom_send_queues),
                        sndbuf_bytes: Some(memory.send_queue_max),
                        fwd_alloc_bytes: Some(memory.cache),
                        wmem_queued_bytes: Some(memory.send_queue),
                        optmem_bytes: Some(memory.options),
                        backlog_bytes: Some(memory.backlog_queue_length),
                        drops: Some(memory.drops),
                    };
                    assert_eq!(o.memory, expected, "{name}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn framing_agrees_with_that_of_netlink_packet_core() {
    for name in REPLIES.concat() {
        let datagram = fixture(name);
        for frame in frames(&datagram).unwrap() {
            let start = frame.payload.start - 16;
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(&datagram[start..]).unwrap();
            assert_eq!(frame.sequence, message.header.sequence_number, "{name}");
            match (frame.kind, message.payload) {
                (FrameKind::Done(code), NetlinkPayload::Done(done)) => {
                    assert_eq!(code, done.code, "{name}");
                }
                (FrameKind::Error(code), NetlinkPayload::Error(error)) => {
                    assert_eq!(code, error.raw_code(), "{name}");
                }
                (
                    FrameKind::Payload(SOCK_DIAG_BY_FAMILY),
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)),
                ) => {
                    let message = Message::parse(&datagram[frame.payload]).unwrap();
                    let id = response.header.socket_id;
                    assert_eq!(message.tuple().local.port, id.source_port, "{name}");
                    assert_eq!(message.cookie().to_ne_bytes(), id.cookie, "{name}");
                }
                (kind, payload) => panic!("{name}: {kind:?} is {payload:?}"),
            }
        }
    }
}
