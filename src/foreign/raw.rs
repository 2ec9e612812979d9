//! Raw netlink as `ss -D FILE` writes it (misc/ss.c of iproute2): the replies to its dumps of TCP over
//! IPv4 and IPv6 one after the other, without the requests and without times.

use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;

use super::dumps::{Dump, failed};
use super::import::LeftOut;
use super::rounds::Round;
use crate::kernel::DumpEnd;
use crate::model::{Clocks, Family, Protocol};
use crate::wire::inet_diag::Message;
use crate::wire::netlink::{FrameKind, frame_at};
use crate::wire::request::TCPDIAG_GETSOCK;

const CUT: &str = "the file ends in the middle of it";

/// Whether bytes begin as such a file does.
pub(super) fn is_raw(bytes: &[u8]) -> bool {
    let kind = bytes.get(4..6).map_or(0, |kind| u16::from_ne_bytes([kind[0], kind[1]]));
    let known = [SOCK_DIAG_BY_FAMILY, TCPDIAG_GETSOCK, 2, 3]; // NLMSG_ERROR, NLMSG_DONE
    let len = bytes.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len));
    known.contains(&kind) && (16..1 << 20).contains(&len)
}

/// Reads a whole file as the one snapshot that it is.
pub(super) fn round(bytes: &[u8], at: Clocks, out: &mut LeftOut) -> Round {
    let mut dumps = Family::ALL.map(|family| Dump::new(at, Protocol::Tcp, vec![family], None));
    let mut end = DumpEnd::Complete;
    let mut is_ended = false;
    let mut offset = 0;
    loop {
        let frame = match frame_at(bytes, offset) {
            Ok(Some(frame)) => frame,
            Ok(None) if is_ended => break,
            Ok(None) | Err(_) => {
                out.files_cut += 1;
                end = DumpEnd::Failed { errno: None, message: CUT.to_owned() };
                break;
            }
        };
        offset = frame.next;
        is_ended = false;
        if frame.interrupted && end == DumpEnd::Complete {
            end = DumpEnd::Interrupted;
        }
        match frame.kind {
            FrameKind::Payload(SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK) => {
                let payload = &bytes[frame.payload];
                match Message::parse(payload) {
                    Ok(message) => {
                        let family = message.family();
                        dumps
                            .iter_mut()
                            .filter(|dump| dump.families.contains(&family))
                            .for_each(|dump| dump.push(at, payload));
                    }
                    Err(_) => out.messages_unreadable += 1,
                }
            }
            FrameKind::Done(code) | FrameKind::Error(code) => {
                is_ended = true;
                if code < 0 {
                    end = failed(code);
                }
            }
            _ => out.messages_unreadable += 1,
        }
    }
    for dump in &mut dumps {
        dump.end = match &end {
            DumpEnd::Failed { errno, message } => {
                DumpEnd::Failed { errno: *errno, message: message.clone() }
            }
            DumpEnd::Interrupted => DumpEnd::Interrupted,
            _ => DumpEnd::Complete,
        };
    }
    Round { started: at, ended: at, dumps: dumps.into(), events: Vec::new() }
}
