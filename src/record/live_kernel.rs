//! The kernel of this machine.

use std::cell::OnceCell;

use hashbrown::{HashMap, HashSet};

use super::inputs::Kernel;
use crate::filter::Narrowed;
use crate::kernel::{
    DumpEnd, EventBatch, EventReader, NamespaceHandles, NamespaceNews, NamespaceSockets,
    NamespaceWatch,
};
use crate::model::{Family, MadeAt, Nanos, Place, Protocol, States};
use crate::store::FormerNamespace;

/// The kernel of this machine, asked by a netlink socket in each namespace.
pub struct LiveKernel {
    namespaces: HashMap<Place, NamespaceSockets>,
    watch: Option<NamespaceWatch>,
    events: Option<EventReader>,
    narrowed: Narrowed,
    /// What dumps are read into, whatever namespace they are of.
    buffer: Box<[u8]>,
    /// Those whose events cannot be read, which is said once.
    unheard: HashSet<String>,
    /// Asked for once there is anything to ask; `None` where the kernel does not have them.
    handles: OnceCell<Option<NamespaceHandles>>,
}

impl LiveKernel {
    /// Takes the sockets of the first namespace, what finds others, who reads the destroy events, and
    /// what the dumps are narrowed to.
    pub fn new(
        first: NamespaceSockets,
        watch: Option<NamespaceWatch>,
        events: Option<EventReader>,
        narrowed: Narrowed,
    ) -> Self {
        let namespaces = HashMap::from_iter([(Place::FIRST, first)]);
        Self {
            namespaces,
            watch,
            events,
            narrowed,
            buffer: Box::default(),
            unheard: HashSet::new(),
            handles: OnceCell::new(),
        }
    }
}

impl Kernel for LiveKernel {
    fn dump(
        &mut self,
        place: Place,
        family: Family,
        protocol: Protocol,
        states: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        let Some(sockets) = self.namespaces.get_mut(&place) else { return DumpEnd::NotAsked };
        let dumps = sockets.dumps();
        dumps.exchange_buffer(&mut self.buffer);
        let end = dumps.dump_narrowed(family, protocol, states, &self.narrowed, each);
        dumps.exchange_buffer(&mut self.buffer);
        end
    }

    fn listens_to_events(&self) -> bool {
        self.events.is_some()
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        if let Some(events) = &self.events {
            events.take(batch);
        }
    }

    fn await_events(&mut self, sent_before_ns: Nanos) {
        if let Some(events) = &self.events {
            events.await_all(sent_before_ns);
        }
    }

    fn follows_namespaces(&self) -> bool {
        self.watch.is_some()
    }

    fn namespace_news(&mut self) -> NamespaceNews {
        let mut news = NamespaceNews::default();
        let Some(watch) = &self.watch else { return news };
        let found = watch.take();
        (news.let_go, news.refused, news.admitted) = (found.let_go, found.refused, found.admitted);
        for (place, mut entered) in found.entered {
            if let (Some(events), Some(socket)) = (&self.events, entered.sockets.take_events())
                && let Err(e) = events.add(place, socket)
            {
                let refusal = entered.refusal(e);
                if self.unheard.insert(refusal.namespace.name.clone()) {
                    news.refused.push(refusal);
                }
                watch.release(place);
                continue;
            }
            self.namespaces.insert(place, entered.sockets);
            news.arrived.push((place, entered.facts));
        }
        news
    }

    fn is_gone(&mut self, former: &FormerNamespace) -> bool {
        let (Some(cookie), Some(inode)) = (former.cookie, former.inode) else { return false };
        match self.handles.get_or_init(NamespaceHandles::new) {
            Some(handles) => handles.is_gone(cookie, inode),
            None => self.watch.as_ref().is_some_and(|watch| watch.has_missed(cookie, inode)),
        }
    }

    fn is_empty(&mut self, place: Place) -> bool {
        self.namespaces.get_mut(&place).is_some_and(|sockets| sockets.are_the_only_ones())
    }

    fn may_have_subflows(&mut self, place: Place) -> bool {
        self.namespaces.get(&place).is_some_and(NamespaceSockets::may_have_subflows)
    }

    fn leave(&mut self, place: Place) {
        // Told before it is closed: once it is gone its inode is used again.
        if let Some(watch) = &self.watch {
            watch.release(place);
        }
        if let Some(events) = &self.events {
            events.remove(place);
        }
        self.namespaces.remove(&place);
    }
}
