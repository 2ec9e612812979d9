//! Both ends of a connection that came and went, of which others had the addresses and ports
//! before the event of the second was read.
//!
//! The kernel sends events from every processor on its own: they may overtake each other.

use hashbrown::HashMap;

use super::Register;
use crate::model::SocketId;
use crate::record::batch::Batch;
use crate::record::flows::{Flow, Member, There};

impl Register {
    /// Whether it is told apart from others that had its addresses and ports.
    fn is_told_apart(&self, member: &Member) -> bool {
        member.is_sharp() || (self.half_told.is_in_order() && !member.has_exchanged_nothing())
    }

    /// Pairs those that died in this tick and fit each other and nobody else.
    pub(super) fn pair_stragglers(&mut self, out: &mut Batch) {
        let mut alone: HashMap<Flow, Vec<Member>> = HashMap::new();
        for index in 0..self.deaths.len() {
            let death = &self.deaths[index];
            let (Some(flow), Some(traffic), None) = (death.flow, death.traffic, death.peer) else {
                continue;
            };
            let there = There {
                open_by_ns: death.open_by_ns,
                open_slack_ns: 0,
                alive_ns: death.active_ns,
                over_ns: death.over_ns,
                traffic: Some(Box::new(traffic)),
            };
            let member = Member::new(death.end.socket, death.cookie, there);
            let is_paired = self.birth_of(member.socket).is_some_and(|birth| birth.peer.is_some());
            let known = self.flows.find(&flow, member.socket);
            let may_find_half = known.is_some_and(|known| self.half_told.may_find_half(known));
            let is_paired = is_paired || known.is_some_and(|known| known.peer.is_some());
            if !is_paired && !may_find_half && self.is_told_apart(&member) {
                alone.entry(flow).or_default().push(member);
            }
        }
        // Those of earlier ticks take part.
        for flow in alone.keys().map(|flow| flow.reversed()).collect::<Vec<_>>() {
            let replaced = self.flows.replaced(&flow).iter().filter(|m| m.peer.is_none());
            let replaced = replaced.filter(|member| {
                !self.death_of.contains_key(&member.socket) && self.is_told_apart(member)
            });
            let replaced: Vec<Member> = replaced.cloned().collect();
            alone.entry(flow).or_default().extend(replaced);
        }
        let mut pairs: Vec<(Flow, SocketId, SocketId)> = Vec::new();
        for (flow, members) in &alone {
            let Some(others) = alone.get(&flow.reversed()) else { continue };
            for member in members {
                if let Some(other) = only_one_that_fits(member, others)
                    && member.socket < other.socket
                    && only_one_that_fits(other, members).is_some()
                {
                    pairs.push((*flow, member.socket, other.socket));
                }
            }
        }
        for (flow, one, other) in pairs {
            for (flow, socket, peer) in [(flow, one, other), (flow.reversed(), other, one)] {
                self.note_peer(socket, peer, out);
                self.flows.set_peer(&flow, socket, peer);
                if let Some(&death) = self.death_of.get(&socket) {
                    self.deaths[death].peer = Some(peer);
                }
            }
        }
    }
}

fn only_one_that_fits<'m>(member: &Member, others: &'m [Member]) -> Option<&'m Member> {
    let mut fitting = others.iter().filter(|other| other.fits(member) && other.mirrors(member));
    fitting.next().filter(|_| fitting.next().is_none())
}
