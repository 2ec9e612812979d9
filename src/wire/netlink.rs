//! The framing of netlink messages (`include/uapi/linux/netlink.h`).

use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer,
};
use std::ops::Range;

use super::WireError;

const HEADER_LEN: usize = 16;

/// One message of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// `nlmsg_seq`: that of the request, 0 for an event.
    pub sequence: u32,
    /// `nlmsg_pid`: the port that a reply goes to, 0 for an event, whatever a request says.
    pub port: u32,
    /// Whether this asks the kernel (`NLM_F_REQUEST`), and if so for a dump (`NLM_F_DUMP`).
    pub request: Option<Wanted>,
    /// Whether the dump saw the world change (`NLM_F_DUMP_INTR`).
    pub interrupted: bool,
    /// Whether more messages of this reply follow (`NLM_F_MULTI`).
    pub multipart: bool,
    /// Where the payload lies in the datagram.
    pub payload: Range<usize>,
    /// Where the next message begins in the datagram.
    pub next: usize,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every object that fits.
    Dump,
    /// One object.
    One,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A payload of this message type.
    Payload(u16),
    /// End of a dump; a negative error number when it failed at its end.
    Done(i32),
    /// Refused with a negative error number, or 0 for an acknowledgment.
    Error(i32),
    /// Nothing to read (`NLMSG_NOOP`).
    Noop,
    /// The kernel lost data (`NLMSG_OVERRUN`).
    Overrun,
}

/// The message that begins at `offset`, `None` behind the last one.
///
/// # Errors
/// When the bytes are too few for a header or its length lies.
pub fn frame_at(datagram: &[u8], offset: usize) -> Result<Option<Frame>, WireError> {
    let bytes = datagram.get(offset..).unwrap_or_default();
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() < HEADER_LEN {
        return Err(WireError::TooShort { needed: HEADER_LEN, got: bytes.len() });
    }
    let header = NetlinkBuffer::new(bytes);
    let len = header.length() as usize;
    if len < HEADER_LEN || len > bytes.len() {
        return Err(WireError::BadLength { claimed: len, available: bytes.len() });
    }
    let payload = &bytes[HEADER_LEN..len];
    let no_status = |_| WireError::TooShort { needed: 4, got: payload.len() };
    let kind = match header.message_type() {
        // Without its status an end proves nothing.
        NLMSG_DONE => FrameKind::Done(DoneBuffer::new_checked(payload).map_err(no_status)?.code()),
        NLMSG_ERROR => FrameKind::Error(
            ErrorBuffer::new_checked(payload).map_err(no_status)?.code().map_or(0, i32::from),
        ),
        NLMSG_NOOP => FrameKind::Noop,
        NLMSG_OVERRUN => FrameKind::Overrun,
        other => FrameKind::Payload(other),
    };
    let flags = header.flags();
    let wanted = if flags & NLM_F_DUMP == NLM_F_DUMP { Wanted::Dump } else { Wanted::One };
    Ok(Some(Frame {
        kind,
        sequence: header.sequence_number(),
        port: header.port_number(),
        request: (flags & NLM_F_REQUEST != 0).then_some(wanted),
        interrupted: flags & NLM_F_DUMP_INTR != 0,
        multipart: flags & NLM_F_MULTIPART != 0,
        payload: offset + HEADER_LEN..offset + len,
        next: offset + len.next_multiple_of(4).min(bytes.len()),
    }))
}
