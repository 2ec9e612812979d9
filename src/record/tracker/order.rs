//! In which order dumps show the sockets.

/// So many sockets are told of beforehand at most, and no fewer than half of them: these are looked up together.
const AHEAD: usize = 32;
/// Where fewer than so many went that stood together, the order is found again behind them.
const GAP_MAX: usize = 256;

/// The kernel walks its table of sockets in the same order from dump to dump. So those that come next are known,
/// and are looked up together before their messages are read: each is kept far from the one before it, and memory
/// that is asked for several places at once answers about as soon as for one. That halves what a tick
/// takes beside the kernel's part (measured).
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Cookies of the last dump.
    before: Vec<u64>,
    /// Cookies of this one, so far.
    now: Vec<u64>,
    /// Of `before`, who seems to come next.
    next: usize,
    /// Of `before`, who has not been told of.
    untold: usize,
}

impl Order {
    /// Comes to this socket; tells of those that seem to come next, of some at a time.
    pub(super) fn come_to(&mut self, cookie: u64) -> &[u64] {
        self.now.push(cookie);
        let coming = self.before.get(self.next..).unwrap_or_default();
        // Who is not among them has come since.
        if let Some(gone) = coming.iter().take(GAP_MAX).position(|&coming| coming == cookie) {
            self.next += gone + 1;
        }
        if self.untold > self.next + AHEAD / 2 {
            return &[];
        }
        let from = self.untold.max(self.next);
        self.untold = self.before.len().min(self.next + AHEAD);
        &self.before[from..self.untold]
    }

    /// Ends a dump: the next one will be like this one.
    pub(super) fn end_dump(&mut self) {
        std::mem::swap(&mut self.before, &mut self.now);
        self.now.clear();
        (self.next, self.untold) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom it told of before their messages came, of those in this dump.
    fn told_of(order: &mut Order, dump: &[u64]) -> Vec<u64> {
        let (mut told, mut in_time) = (Vec::new(), Vec::new());
        for &cookie in dump {
            if told.contains(&cookie) {
                in_time.push(cookie);
            }
            told.extend_from_slice(order.come_to(cookie));
        }
        order.end_dump();
        in_time
    }

    #[test]
    fn all_but_the_first_are_told_of_once_a_dump_was_made() {
        let dump: Vec<u64> = (1..=100).collect();
        let mut order = Order::default();
        assert!(told_of(&mut order, &dump).is_empty());
        for _ in 0..3 {
            assert_eq!(told_of(&mut order, &dump), dump[1..]);
        }
    }

    #[test]
    fn each_is_told_of_once() {
        let dump: Vec<u64> = (1..=100).collect();
        let mut order = Order::default();
        told_of(&mut order, &dump);
        let told: Vec<u64> =
            dump.iter().flat_map(|&cookie| order.come_to(cookie).to_owned()).collect();
        assert_eq!(told, dump[1..]);
    }

    #[test]
    fn who_stays_is_told_of_whoever_comes_and_goes() {
        let stays = |cookie: &u64| cookie % 10 < 7;
        let before: Vec<u64> = (1..=1_000).collect();
        let mut order = Order::default();
        told_of(&mut order, &before);
        let after: Vec<u64> = before
            .iter()
            .flat_map(|&cookie| [cookie, cookie + 10_000])
            .filter(|&cookie| if cookie > 10_000 { cookie % 3 == 0 } else { stays(&cookie) })
            .collect();
        let in_time = told_of(&mut order, &after);
        let staying = before.iter().filter(|&cookie| stays(cookie)).count();
        assert_eq!(in_time.len(), staying - 1, "all but the first");
    }

    #[test]
    fn after_a_dump_that_broke_off_the_next_one_is_like_it() {
        let dump: Vec<u64> = (1..=100).collect();
        let mut order = Order::default();
        told_of(&mut order, &dump);
        told_of(&mut order, &dump[..30]);
        assert_eq!(told_of(&mut order, &dump), dump[1..30]);
        assert_eq!(told_of(&mut order, &dump), dump[1..]);
        assert!(told_of(&mut order, &[]).is_empty());
    }
}
