//! Packets of an nlmon interface to dumps and destroy events.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;

use super::import::LeftOut;
use super::requests::{Found, Requests};
use crate::kernel::DumpEnd;
use crate::model::{Clocks, Family, MadeAt, Nanos, Protocol};
use crate::wire::inet_diag::Message;
use crate::wire::netlink::{Frame, FrameKind, Wanted, frame_at};
use crate::wire::request::{self, Request, TCPDIAG_GETSOCK};

/// Every receiver gets an event of its own: so many are remembered to know one again.
const EVENTS_REMEMBERED: usize = 64;
/// So long a dump may say nothing before it counts as failed.
const SILENCE_NS: Nanos = 10_000_000_000;
/// `struct nlmsghdr`
const NETLINK_HEADER_LEN: usize = 16;

/// One dump that others made.
#[derive(Debug)]
pub struct Dump {
    /// When it was asked for, or else its first message came.
    pub started: Clocks,
    /// When it ended, or was given up.
    pub ended: Clocks,
    /// What it shows.
    pub protocol: Protocol,
    /// One, or both for a request of old.
    pub families: Vec<Family>,
    /// What was asked for, where that is known.
    pub request: Option<Request>,
    /// How it ended.
    pub end: DumpEnd,
    bytes: Vec<u8>,
    messages: Vec<(i64, Range<usize>)>,
}

impl Dump {
    /// One that has shown nothing yet.
    pub(super) fn new(
        started: Clocks,
        protocol: Protocol,
        families: Vec<Family>,
        request: Option<Request>,
    ) -> Self {
        let (end, bytes, messages) = (DumpEnd::Complete, Vec::new(), Vec::new());
        Self { started, ended: started, protocol, families, request, end, bytes, messages }
    }

    /// Adds the payload of a message.
    pub(super) fn push(&mut self, at: Clocks, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.messages.push((at.monotonic_ms(), start..self.bytes.len()));
        self.ended = at;
    }

    /// Whether it shows any socket.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Hands out the messages of a family and those that make no sense, which may be written into, and
    /// the time of each.
    pub fn each(&mut self, family: Family, each: &mut dyn FnMut(&mut [u8], MadeAt)) {
        for (at_ms, range) in &self.messages {
            let payload = &mut self.bytes[range.clone()];
            let of = payload.first().copied().and_then(Family::from_number);
            if of.is_none_or(|of| of == family) {
                each(payload, MadeAt::just(*at_ms));
            }
        }
    }
}

/// What packets came to, in the order in which it was whole.
#[derive(Debug)]
pub(super) enum Item {
    Dump(Dump),
    Event(Clocks, Vec<u8>),
}

/// A dump that has not ended.
#[derive(Debug)]
struct Unfinished {
    port: u32,
    sequence: u32,
    /// When its last message came, on the steady clock.
    heard_ns: Nanos,
    /// `None` for one that cannot be recorded.
    dump: Option<Dump>,
    is_interrupted: bool,
    /// What is wrong with it.
    flaw: Option<&'static str>,
}

/// Puts the packets of captures together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pub(super) items: VecDeque<Item>,
    requests: Requests,
    unfinished: Vec<Unfinished>,
    last_at: Option<Clocks>,
    hasher: RandomState,
    recent_events: VecDeque<u64>,
}

impl Assembler {
    /// Takes a datagram of `NETLINK_SOCK_DIAG`, of which the end may not have been captured.
    pub(super) fn take(&mut self, at: Clocks, datagram: &[u8], is_cut: bool, out: &mut LeftOut) {
        self.last_at = Some(at);
        self.give_up(at, |reply| at.boottime_ns - reply.heard_ns > SILENCE_NS);
        let mut offset = 0;
        loop {
            match frame_at(datagram, offset) {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    offset = frame.next;
                    self.take_frame(at, &frame, &datagram[frame.payload.clone()], out);
                }
                Err(_) => {
                    let rest = datagram.get(offset..).unwrap_or_default();
                    if offset == 0 && !is_cut && is_of_other_byte_order(rest) {
                        out.packets_of_other_byte_order += 1;
                        return;
                    }
                    out.messages_unreadable += u64::from(!is_cut);
                    self.flaw(at, rest, out);
                    return;
                }
            }
        }
    }

    /// Gives up what has not ended.
    pub(super) fn finish(&mut self) {
        if let Some(at) = self.last_at {
            self.give_up(at, |_| true);
        }
    }

    /// Gives up dumps whose end is not to be expected any more.
    fn give_up(&mut self, at: Clocks, is_over: impl Fn(&Unfinished) -> bool) {
        let (over, going_on) = std::mem::take(&mut self.unfinished).into_iter().partition(is_over);
        self.unfinished = going_on;
        for mut reply in over {
            reply.flaw.get_or_insert("its end was not captured");
            self.end(at, reply, 0);
        }
    }

    fn take_frame(&mut self, at: Clocks, frame: &Frame, payload: &[u8], out: &mut LeftOut) {
        let (port, sequence) = (frame.port, frame.sequence);
        match (frame.kind, frame.request) {
            (FrameKind::Payload(SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK), Some(Wanted::One)) => {
                out.look_ups += 1;
            }
            (FrameKind::Payload(kind @ (SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK)), Some(_)) => {
                match request::parse(kind, payload) {
                    Ok(request) => self.requests.add(at, port, sequence, request),
                    Err(_) => out.messages_unreadable += 1,
                }
            }
            (FrameKind::Payload(SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK), None) => {
                if (port, sequence) == (0, 0) {
                    self.event(at, payload);
                } else if frame.multipart {
                    self.message(at, frame, payload, out);
                }
            }
            (FrameKind::Done(code), _) => {
                let place = self.of_reply(at, port, sequence, None, out);
                self.reply_ends(at, place, frame, code);
            }
            (FrameKind::Error(code), None) if code < 0 && refuses_a_dump(payload) => {
                // It may refuse one because another is under way, which goes on.
                let place = self.place(port, sequence);
                let place = place.unwrap_or_else(|| self.begin(at, port, sequence, None, out));
                self.reply_ends(at, place, frame, code);
            }
            (FrameKind::Overrun, _) => {
                let place = self.of_reply(at, port, sequence, None, out);
                self.unfinished[place].flaw.get_or_insert("the kernel lost a part of it");
            }
            _ => {}
        }
    }

    fn message(&mut self, at: Clocks, frame: &Frame, payload: &[u8], out: &mut LeftOut) {
        let family = payload.first().copied();
        let place = self.of_reply(at, frame.port, frame.sequence, family, out);
        let reply = &mut self.unfinished[place];
        reply.is_interrupted |= frame.interrupted;
        if let Some(dump) = &mut reply.dump {
            dump.push(at, payload);
            out.messages_unreadable += u64::from(Message::parse(payload).is_err());
        }
    }

    fn reply_ends(&mut self, at: Clocks, place: usize, frame: &Frame, code: i32) {
        let mut reply = self.unfinished.swap_remove(place);
        reply.is_interrupted |= frame.interrupted;
        self.end(at, reply, code);
    }

    /// The place of the dump that this is a part of; one that begins with a message of this family
    /// if it is the first part.
    fn of_reply(
        &mut self,
        at: Clocks,
        port: u32,
        sequence: u32,
        family: Option<u8>,
        out: &mut LeftOut,
    ) -> usize {
        let is_of_family = |reply: &Unfinished| {
            let family = family.and_then(Family::from_number);
            reply.dump.as_ref().zip(family).is_none_or(|(dump, f)| dump.families.contains(&f))
        };
        let place = self.place(port, sequence);
        if let Some(place) = place.filter(|&place| is_of_family(&self.unfinished[place])) {
            self.unfinished[place].heard_ns = at.boottime_ns;
            return place;
        }
        // A socket makes one dump at a time.
        self.give_up(at, |reply| reply.port == port);
        self.begin(at, port, sequence, family, out)
    }

    fn place(&self, port: u32, sequence: u32) -> Option<usize> {
        self.unfinished.iter().position(|reply| (reply.port, reply.sequence) == (port, sequence))
    }

    fn begin(
        &mut self,
        at: Clocks,
        port: u32,
        sequence: u32,
        family: Option<u8>,
        out: &mut LeftOut,
    ) -> usize {
        let found = self.requests.take(port, sequence, family);
        let dump = begin(found, family, out);
        let (heard_ns, is_interrupted, flaw) = (at.boottime_ns, false, None);
        self.unfinished.push(Unfinished { port, sequence, heard_ns, dump, is_interrupted, flaw });
        self.unfinished.len() - 1
    }

    fn end(&mut self, at: Clocks, reply: Unfinished, code: i32) {
        let Some(mut dump) = reply.dump else { return };
        dump.ended = at;
        dump.end = if code < 0 {
            failed(code)
        } else if let Some(flaw) = reply.flaw {
            DumpEnd::Failed { errno: None, message: flaw.to_owned() }
        } else if reply.is_interrupted {
            DumpEnd::Interrupted
        } else {
            DumpEnd::Complete
        };
        self.items.push_back(Item::Dump(dump));
    }

    /// This part of a datagram could not be read: if it is of a dump, that lacks it.
    fn flaw(&mut self, at: Clocks, part: &[u8], out: &mut LeftOut) {
        let Some(header) = quoted_header(part) else { return };
        if header.request.is_none() && is_sock_diag(header.kind) && header.multipart {
            let family = part.get(NETLINK_HEADER_LEN).copied();
            let place = self.of_reply(at, header.port, header.sequence, family, out);
            self.unfinished[place].flaw.get_or_insert("a part of it was not captured");
        }
    }

    fn event(&mut self, at: Clocks, payload: &[u8]) {
        let hash = self.hasher.hash_one(payload);
        if self.recent_events.contains(&hash) {
            return;
        }
        if self.recent_events.len() >= EVENTS_REMEMBERED {
            self.recent_events.pop_front();
        }
        self.recent_events.push_back(hash);
        self.items.push_back(Item::Event(at, payload.to_vec()));
    }
}

/// A dump that answers this request; `None` if it is not of sockets that are recorded.
fn begin(found: Found, family: Option<u8>, out: &mut LeftOut) -> Option<Dump> {
    let (started, asked_family, number, request) = match found {
        Found::Request(at, request) => (at, request.family, request.protocol, Some(request)),
        Found::OneOf(at, family, protocol) => (at, family, protocol, None),
        Found::Nothing => {
            let is_inet = family.is_some_and(|f| Family::from_number(f).is_some());
            out.dumps_without_request += u64::from(is_inet);
            out.other_dumps += u64::from(family.is_some() && !is_inet);
            return None;
        }
    };
    let families = match asked_family {
        None => Family::ALL.to_vec(),
        Some(number) => Family::from_number(number).into_iter().collect(),
    };
    let protocol = u16::try_from(number).ok().and_then(Protocol::from_number);
    if families.is_empty() {
        out.other_dumps += 1;
        return None;
    }
    let Some(protocol) = protocol else {
        out.dumps_of_other_protocols += 1;
        return None;
    };
    Some(Dump::new(started, protocol, families, request))
}

/// The end of a dump with a negative error number.
pub(super) fn failed(code: i32) -> DumpEnd {
    let errno = code.saturating_neg();
    let message = std::io::Error::from_raw_os_error(errno).to_string();
    DumpEnd::Failed { errno: Some(errno), message }
}

/// Whether what an error quotes is a request for a dump.
fn refuses_a_dump(payload: &[u8]) -> bool {
    let quoted = payload.get(4..).and_then(quoted_header);
    quoted.is_some_and(|frame| frame.request == Some(Wanted::Dump) && is_sock_diag(frame.kind))
}

fn is_sock_diag(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Payload(SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK))
}

/// The header of a message of which not all is there, whatever length it says.
fn quoted_header(bytes: &[u8]) -> Option<Frame> {
    let mut header = *bytes.first_chunk::<NETLINK_HEADER_LEN>()?;
    header[..4].copy_from_slice(&16u32.to_ne_bytes());
    frame_at(&header, 0).ok().flatten()
}

/// Whether the length of a message makes sense in the other byte order alone.
pub(super) fn is_of_other_byte_order(bytes: &[u8]) -> bool {
    let Some(field) = bytes.first_chunk::<4>() else { return false };
    let fits = |len: u32| len as usize >= NETLINK_HEADER_LEN && len as usize <= bytes.len();
    let len = u32::from_ne_bytes(*field);
    !fits(len) && fits(len.swap_bytes())
}
