//! The numbers of namespaces that come while a capture goes on, and of what they are asked for.

use hashbrown::HashMap;

use crate::model::{Arrival, Asked, NamespaceFacts, NetnsId, Scope, ScopeId, SnapshotId};
use crate::store::{FormerNamespace, KnownNamespaces};

/// By what the kernel tells a namespace from others: its cookie or, where it has none, its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Cookie(u64),
    Inode(Option<u64>),
}

impl Key {
    fn new(cookie: Option<u64>, inode: Option<u64>) -> Self {
        cookie.map_or(Self::Inode(inode), Self::Cookie)
    }
}

/// A namespace that has its number.
#[derive(Clone, Copy)]
struct Numbered {
    netns: NetnsId,
    /// The first of its scopes, which count up. `None` for one that the recording knew.
    first_scope: Option<ScopeId>,
}

/// Numbers namespaces and scopes: those that the recording knows as it does, others anew. What it keeps of
/// each is little: in the course of weeks there may be many.
pub(super) struct Numbering {
    asked: Vec<Asked>,
    namespaces: HashMap<Key, Numbered>,
    known_scopes: HashMap<Scope, ScopeId>,
    next_netns: NetnsId,
    next_scope: ScopeId,
}

impl Numbering {
    /// Each namespace is asked for the same.
    pub(super) fn new(known: KnownNamespaces, asked: Vec<Asked>) -> Self {
        let KnownNamespaces { namespaces, scopes, next_netns, next_scope } = known;
        let numbered = |FormerNamespace { id, cookie, inode }| {
            (Key::new(cookie, inode), Numbered { netns: id, first_scope: None })
        };
        Self {
            asked,
            namespaces: namespaces.into_iter().map(numbered).collect(),
            known_scopes: scopes.into_iter().map(|(id, scope)| (scope, id)).collect(),
            next_netns,
            next_scope,
        }
    }

    /// A namespace is recorded from this snapshot on.
    pub(super) fn arrival(&mut self, facts: NamespaceFacts, first: SnapshotId) -> Arrival {
        let key = Key::new(facts.cookie, facts.inode);
        let known = self.namespaces.get(&key).copied();
        let Numbered { netns, first_scope } = known.unwrap_or_else(|| self.number(key));
        let asked = std::mem::take(&mut self.asked);
        let mut scopes = Vec::with_capacity(asked.len());
        let mut next = first_scope;
        for Asked { family, protocol, states, filter } in asked.iter().cloned() {
            let scope = Scope { netns, family, protocol, states, filter };
            let id = next.unwrap_or_else(|| self.scope_of_known(&scope));
            next = next.map(ScopeId::next);
            scopes.push((id, scope));
        }
        self.asked = asked;
        Arrival { netns, facts, scopes, first }
    }

    fn number(&mut self, key: Key) -> Numbered {
        let numbered = Numbered { netns: self.next_netns, first_scope: Some(self.next_scope) };
        self.next_netns = self.next_netns.next();
        for _ in &self.asked {
            self.next_scope = self.next_scope.next();
        }
        self.namespaces.insert(key, numbered);
        numbered
    }

    fn scope_of_known(&mut self, scope: &Scope) -> ScopeId {
        let Self { known_scopes, next_scope, .. } = self;
        if let Some(id) = known_scopes.get(scope) {
            return *id;
        }
        let id = *next_scope;
        *next_scope = id.next();
        known_scopes.insert(scope.clone(), id);
        id
    }
}
