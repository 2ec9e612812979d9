//! Requests, read back by the netlink-packet crates.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlasIterator, Parseable};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, StateFlags};

use sockrec::model::{Family, Protocol, States, TcpState};
use sockrec::wire::request;

#[test]
fn a_request_is_read_back_by_netlink_packet_sock_diag() {
    let some = States::only(TcpState::ESTABLISHED).union(States::only(TcpState::LISTEN));
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            for states in [States::ALL, States::NONE, some] {
                let bytes = request::dump(family, protocol, states, 0x0102_0304);
                let message = NetlinkBuffer::new_checked(&bytes).unwrap();
                assert_eq!(message.length() as usize, bytes.len());
                assert_eq!(message.message_type(), SOCK_DIAG_BY_FAMILY);
                assert_eq!(message.flags(), NLM_F_REQUEST | NLM_F_DUMP);
                assert_eq!(message.sequence_number(), 0x0102_0304);
                let request = InetRequest::parse(message.payload()).unwrap();
                assert_eq!(request.family, family.number());
                assert_eq!(
                    request.protocol,
                    u8::try_from(protocol.number()).unwrap_or(u8::MAX),
                    "{protocol:?}"
                );
                assert_eq!(request.extensions.bits(), 0xff);
                assert_eq!(request.extensions, ExtensionFlags::all());
                assert_eq!(request.states, StateFlags::from_bits_truncate(states.0));
                assert_eq!(request.socket_id.source_port, 0);
                assert_eq!(request.socket_id.cookie, [0; 8]);
            }
        }
    }
}

#[test]
fn a_request_asks_for_states_that_have_no_name_yet() {
    let states = States(1 << 13 | 1 << 31);
    let bytes = request::dump(Family::Inet, Protocol::Tcp, states, 1);
    assert_eq!(bytes[20..24], states.0.to_ne_bytes());
}

#[test]
fn a_protocol_too_large_for_its_field_goes_into_an_attribute() {
    for family in Family::ALL {
        let bytes = request::dump(family, Protocol::Mptcp, States::ALL, 1);
        let nlas: Vec<_> = NlasIterator::new(&bytes[16 + 56..]).map(Result::unwrap).collect();
        assert_eq!(nlas.len(), 1);
        assert_eq!((nlas[0].kind(), nlas[0].value()), (3, &262u32.to_ne_bytes()[..]));
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Raw] {
            assert_eq!(request::dump(family, protocol, States::ALL, 1).len(), 16 + 56);
        }
    }
}
