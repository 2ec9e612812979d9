//! Which request a reply answers.

use std::collections::VecDeque;

use crate::model::{Clocks, Nanos};
use crate::wire::request::Request;

/// The kernel answers at once: what waits longer is not answered any more.
const ANSWERED_WITHIN_NS: Nanos = 10_000_000_000;
const WAITING_MAX: usize = 1_024;

/// A request that has no answer yet.
#[derive(Debug)]
struct Waiting {
    at: Clocks,
    /// What it says of itself: mostly 0, the kernel does not mind.
    port: u32,
    sequence: u32,
    request: Request,
}

/// Requests that wait for their answer, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Requests(VecDeque<Waiting>);

/// What is known of the request of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This, made then.
    Request(Clocks, Request),
    /// One of several for this family and protocol, the first made then.
    OneOf(Clocks, Option<u8>, u32),
    /// Nothing.
    Nothing,
}

impl Requests {
    /// Notes a request.
    pub(super) fn add(&mut self, at: Clocks, port: u32, sequence: u32, request: Request) {
        let is_over =
            |waiting: &Waiting| at.boottime_ns - waiting.at.boottime_ns > ANSWERED_WITHIN_NS;
        while self.0.len() >= WAITING_MAX || self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        self.0.push_back(Waiting { at, port, sequence, request });
    }

    /// Takes the request that a reply to this port answers, which begins with a message of this family
    /// if it has any. Where several may be meant the first is taken, and only what they have in common
    /// is known.
    pub(super) fn take(&mut self, port: u32, sequence: u32, family: Option<u8>) -> Found {
        let may_be_meant = |waiting: &Waiting| {
            waiting.sequence == sequence
                && (waiting.port == 0 || waiting.port == port)
                && family.is_none_or(|f| waiting.request.family.is_none_or(|asked| asked == f))
        };
        let all = self.0.iter().enumerate();
        let meant: Vec<_> = all.filter(|(_, waiting)| may_be_meant(waiting)).map(|m| m.0).collect();
        let Some((&first, others)) = meant.split_first() else { return Found::Nothing };
        let are_others = |like: fn(&Request, &Request) -> bool| {
            others.iter().all(|&other| like(&self.0[other].request, &self.0[first].request))
        };
        let is_known = are_others(|a, b| a == b);
        let is_of_kind = are_others(|a, b| (a.family, a.protocol) == (b.family, b.protocol));
        match self.0.remove(first) {
            Some(Waiting { at, request, .. }) if is_known => Found::Request(at, request),
            Some(Waiting { at, request, .. }) if is_of_kind => {
                Found::OneOf(at, request.family, request.protocol)
            }
            _ => Found::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::States;

    fn at(ns: Nanos) -> Clocks {
        Clocks { utc_ns: ns, monotonic_ns: ns, boottime_ns: ns }
    }

    fn request(family: u8, states: u32) -> Request {
        Request { family: Some(family), protocol: 6, states: States(states), filter: String::new() }
    }

    #[test]
    fn a_reply_is_matched_by_sequence_port_and_family() {
        let mut requests = Requests::default();
        requests.add(at(0), 0, 7, request(2, 1));
        requests.add(at(0), 0, 7, request(10, 2));
        requests.add(at(0), 99, 8, request(2, 3));
        assert_eq!(requests.take(1, 6, None), Found::Nothing);
        assert_eq!(requests.take(1, 8, None), Found::Nothing, "asked by another port");
        assert_eq!(requests.take(99, 8, None), Found::Request(at(0), request(2, 3)));
        assert_eq!(requests.take(1, 7, Some(10)), Found::Request(at(0), request(10, 2)));
        assert_eq!(requests.take(1, 7, None), Found::Request(at(0), request(2, 1)));
        assert_eq!(requests.take(1, 7, None), Found::Nothing, "it was answered");
    }

    #[test]
    fn of_requests_that_cannot_be_told_apart_only_what_they_share_is_known() {
        let mut requests = Requests::default();
        requests.add(at(0), 0, 7, request(2, 1));
        requests.add(at(0), 0, 7, request(2, 2));
        assert_eq!(requests.take(1, 7, Some(2)), Found::OneOf(at(0), Some(2), 6));
        assert_eq!(requests.take(1, 7, Some(2)), Found::Request(at(0), request(2, 2)));
    }

    #[test]
    fn a_request_that_was_never_answered_is_forgotten() {
        let mut requests = Requests::default();
        requests.add(at(0), 0, 7, request(2, 1));
        requests.add(at(ANSWERED_WITHIN_NS + 1), 0, 8, request(2, 1));
        assert_eq!(requests.take(1, 7, None), Found::Nothing);
    }
}
