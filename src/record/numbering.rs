//! The numbers of namespaces that come while a capture goes on, and of what they are asked for.

use hashbrown::HashMap;

use crate::model::{Arrival, Asked, NamespaceFacts, NetnsId, Scope, ScopeId, SnapshotId};
use crate::store::KnownNamespaces;

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

/// Numbers namespaces and scopes: those that the recording knows as it does, others anew.
pub(super) struct Numbering {
    asked: Vec<Asked>,
    namespaces: HashMap<Key, NetnsId>,
    scopes: HashMap<Scope, ScopeId>,
    next_netns: NetnsId,
    next_scope: ScopeId,
}

impl Numbering {
    /// Each namespace is asked for the same.
    pub(super) fn new(known: KnownNamespaces, asked: Vec<Asked>) -> Self {
        let KnownNamespaces { namespaces, scopes, next_netns, next_scope } = known;
        let key = |(id, cookie, inode)| (Key::new(cookie, inode), id);
        Self {
            asked,
            namespaces: namespaces.into_iter().map(key).collect(),
            scopes: scopes.into_iter().map(|(id, scope)| (scope, id)).collect(),
            next_netns,
            next_scope,
        }
    }

    /// A namespace is recorded from this snapshot on.
    pub(super) fn arrival(&mut self, facts: NamespaceFacts, first: SnapshotId) -> Arrival {
        let Self { asked, namespaces, scopes, next_netns, next_scope } = self;
        let key = Key::new(facts.cookie, facts.inode);
        let netns = *namespaces.entry(key).or_insert_with(|| {
            let id = *next_netns;
            *next_netns = id.next();
            id
        });
        let number = |asked: &Asked| {
            let Asked { family, protocol, states, filter } = asked.clone();
            let scope = Scope { netns, family, protocol, states, filter };
            let known = scopes.get(&scope).copied();
            let id = known.unwrap_or_else(|| {
                let id = *next_scope;
                *next_scope = id.next();
                scopes.insert(scope.clone(), id);
                id
            });
            (id, scope)
        };
        let scopes = asked.iter().map(number).collect();
        Arrival { netns, facts, scopes, first }
    }
}
