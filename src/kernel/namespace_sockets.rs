//! The netlink sockets of a network namespace, and what the kernel counts there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::{DiagError, DiagSocket, EventSocket};
use crate::model::{Family, NamespaceFacts, Protocol};

/// `/proc/net/sockstat` and the one of IPv6 are some hundred bytes long.
const COUNTS_LEN: usize = 4 * 1024;
/// `/proc/net/netstat` is some four thousand bytes long.
const NETSTAT_LEN: usize = 32 * 1024;

/// The sockets that a namespace is asked by. They stay in it, and hold it as any socket does.
pub struct NamespaceSockets {
    dumps: DiagSocket,
    events: Option<EventSocket>,
    /// Sockets of these that the kernel counts.
    own: u64,
    counts: Option<Counts>,
    /// `None` where destroy events are not wanted, or the kernel's counts cannot be read.
    mptcp: Option<MptcpCounts>,
}

impl NamespaceSockets {
    /// Opens them in this thread's network namespace; those for destroy events of these dumps too, if
    /// they are wanted.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open(events: Option<&[(Family, Protocol)]>) -> Result<Self, DiagError> {
        let dumps = DiagSocket::open()?;
        let mptcp = events.and_then(|_| MptcpCounts::open().ok());
        let events = events.map(EventSocket::open).transpose()?;
        let own = 1 + u64::from(events.is_some());
        Ok(Self { dumps, events, own, counts: None, mptcp })
    }

    /// From now on the kernel's counts of this thread's network namespace are asked too, if there are
    /// any.
    #[must_use]
    pub fn count(mut self) -> Self {
        self.counts = Counts::open().ok();
        self
    }

    /// The socket that dumps are made on.
    pub fn dumps(&mut self) -> &mut DiagSocket {
        &mut self.dumps
    }

    /// The socket that has joined the destroy groups, for who reads it.
    pub fn take_events(&mut self) -> Option<EventSocket> {
        self.events.take()
    }

    /// Whether the namespace has no other sockets than these, and nothing is left of any. `false` where
    /// the kernel does not count them.
    pub fn are_the_only_ones(&mut self) -> bool {
        let own = self.own;
        self.counts.as_mut().is_some_and(|counts| counts.are_of(own))
    }

    /// Whether subflows of MPTCP may have been there since these sockets were opened. They may where the kernel does
    /// not tell.
    pub fn may_have_subflows(&self) -> bool {
        self.mptcp.as_ref().is_none_or(MptcpCounts::are_in_use)
    }

    /// How the namespace of this thread and of these sockets is known, but for its name.
    pub fn namespace(&self) -> NamespaceFacts {
        NamespaceFacts {
            cookie: self.dumps.netns_cookie(),
            inode: fs::metadata("/proc/thread-self/ns/net").ok().map(|m| m.ino()),
            name: None,
            local_ports: local_ports(),
        }
    }
}

/// What the kernel counts in a namespace. The files belong to that in which they were opened.
struct Counts {
    v4: File,
    /// `None` where there is no IPv6.
    v6: Option<File>,
    text: String,
}

impl Counts {
    fn open() -> io::Result<Self> {
        let v6 = match File::open("/proc/thread-self/net/sockstat6") {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let v4 = File::open("/proc/thread-self/net/sockstat")?;
        Ok(Self { v4, v6, text: String::with_capacity(COUNTS_LEN) })
    }

    fn are_of(&mut self, own: u64) -> bool {
        let Self { v4, v6, text } = self;
        text.clear();
        let mut bytes = [0; COUNTS_LEN];
        for file in [Some(&*v4), v6.as_ref()].into_iter().flatten() {
            let Ok(len) = file.read_at(&mut bytes, 0) else { return false };
            let Ok(part) = std::str::from_utf8(&bytes[..len]) else { return false };
            text.push_str(part);
        }
        are_of(text, v6.is_some(), own)
    }
}

/// Whether `sockstat`, with `sockstat6` after it, counts so many sockets and none that a dump could
/// show. A socket that is bound and no more stands in `used` only, one of the kernel's own only among
/// those of its protocol, what is left of a connection only in `tw`.
fn are_of(text: &str, has_v6: bool, own: u64) -> bool {
    let count = |line: &str, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(": "))?;
        let mut words = line.split_whitespace();
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    let v6: &[_] = if has_v6 { &["TCP6", "UDP6", "RAW6"] } else { &[] };
    count("sockets", "used") == Some(own)
        && count("TCP", "tw") == Some(0)
        && ["TCP", "UDP", "RAW"].iter().chain(v6).all(|line| count(line, "inuse") == Some(0))
}

/// What the kernel counts of MPTCP in a namespace. The file belongs to that in which it was opened.
struct MptcpCounts {
    file: File,
    /// As they were when it was opened.
    first: Option<String>,
}

impl MptcpCounts {
    fn open() -> io::Result<Self> {
        let file = File::open("/proc/thread-self/net/netstat")?;
        let first = mptcp_counts(&read_whole(&file)?).map(str::to_owned);
        Ok(Self { file, first })
    }

    /// Whether there were connections when it was opened, or anything was counted since: no subflow
    /// comes without that.
    fn are_in_use(&self) -> bool {
        let Ok(text) = read_whole(&self.file) else { return true };
        self.first.as_deref().is_some_and(has_connections)
            || mptcp_counts(&text) != self.first.as_deref()
    }
}

/// `/proc/net/netstat` anew: the kernel writes it as it is read from its start.
fn read_whole(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; NETSTAT_LEN];
    let mut len = 0;
    loop {
        match file.read_at(&mut bytes[len..], len as u64)? {
            0 if len < bytes.len() => break,
            0 => return Err(io::ErrorKind::FileTooLarge.into()),
            read => len += read,
        }
    }
    bytes.truncate(len);
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The names of the counts of MPTCP and, in the next line, what they are. `None` where the kernel has no MPTCP.
fn mptcp_counts(netstat: &str) -> Option<&str> {
    let counts = &netstat[netstat.find("MPTcpExt: ")?..];
    let end = counts.match_indices('\n').nth(1).map_or(counts.len(), |(at, _)| at);
    Some(&counts[..end])
}

/// Whether any connection of MPTCP is open by these counts; where a kernel does not count those that are
/// (before Linux 6.8), whether any was.
fn has_connections(counts: &str) -> bool {
    let mut lines = counts.lines().map(|line| line.split_whitespace().skip(1));
    let (Some(names), Some(counts)) = (lines.next(), lines.next()) else { return true };
    let mut all = names.zip(counts);
    match all.clone().find(|(name, _)| *name == "MPCurrEstab") {
        Some((_, open)) => open != "0",
        None => all.any(|(_, count)| count != "0"),
    }
}

/// The first and last of the local ports that this thread's namespace chooses from.
fn local_ports() -> Option<(u16, u16)> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    Some((first.parse().ok()?, last.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{are_of, has_connections, mptcp_counts};

    const V4: &str = "sockets: used 2\n\
        TCP: inuse 0 orphan 3 tw 0 alloc 9 mem 1\n\
        UDP: inuse 0 mem 28\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n";
    const V6: &str = "TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\n";

    #[test]
    fn only_its_own_sockets_are_counted() {
        let text = format!("{V4}{V6}");
        assert!(are_of(&text, true, 2));
        assert!(are_of(V4, false, 2));
        assert!(!are_of(&text, true, 1));
        assert!(!are_of(V4, true, 2));
        assert!(!are_of("", false, 0));
    }

    #[test]
    fn whatever_a_dump_could_show_counts() {
        let text = format!("{V4}{V6}");
        for (zero, one) in [
            ("used 2", "used 3"),
            ("TCP: inuse 0", "TCP: inuse 1"),
            ("tw 0", "tw 1"),
            ("UDP: inuse 0", "UDP: inuse 1"),
            ("RAW: inuse 0", "RAW: inuse 1"),
            ("TCP6: inuse 0", "TCP6: inuse 1"),
            ("UDP6: inuse 0", "UDP6: inuse 1"),
            ("RAW6: inuse 0", "RAW6: inuse 1"),
        ] {
            assert!(!are_of(&text.replace(zero, one), true, 2), "{one}");
        }
    }

    #[test]
    fn the_counts_of_mptcp_are_found_where_there_are_any() {
        let netstat = "TcpExt: SyncookiesSent TWKilled\nTcpExt: 0 3\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(mptcp_counts(netstat), None);
        let netstat =
            format!("{netstat}MPTcpExt: MPCapableSYNRX MPCurrEstab\nMPTcpExt: 5 0\nX: 1\n");
        let counts = mptcp_counts(&netstat).unwrap();
        assert_eq!(counts, "MPTcpExt: MPCapableSYNRX MPCurrEstab\nMPTcpExt: 5 0");
        assert!(!has_connections(counts));
        assert!(has_connections(&counts.replace("5 0", "5 1")));
        // A kernel that does not count what is open.
        assert!(has_connections("MPTcpExt: MPCapableSYNRX MPJoinSynRx\nMPTcpExt: 0 1"));
        assert!(!has_connections("MPTcpExt: MPCapableSYNRX MPJoinSynRx\nMPTcpExt: 0 0"));
        assert!(has_connections("MPTcpExt: MPCapableSYNRX"));
    }
}
