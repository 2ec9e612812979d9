//! Recordings of sockets that never were.

use std::net::Ipv4Addr;
use std::path::Path;

use sockrec::model::{
    ActivityTimes, Capture, Clocks, EndReason, Endpoint, Family, GroupId, HostFacts, MptcpInfo,
    NamespaceFacts, NewSocket, Observation, Protocol, SampleRow, Scope, Snapshot, SnapshotId,
    SocketId, SocketMemory, SocketUpdate, Source, States, TcpInfo, TcpState, Timer, Tuple,
    TupleTold,
};
use sockrec::store::{Start, TickWriter, Writer};

/// 2023-11-14 22:13:20 UTC, when every made-up recording begins.
const START_NS: i64 = 1_700_000_000_000_000_000;

/// A moment, so many seconds after the beginning.
fn clocks(second: i64) -> Clocks {
    let ns = second * 1_000_000_000;
    Clocks { utc_ns: START_NS + ns, monotonic_ns: ns, boottime_ns: ns }
}

/// An established TCP connection of which little is known.
pub(crate) fn observation(port: u16) -> Observation<'static> {
    let end = |port| Endpoint { address: Ipv4Addr::LOCALHOST.into(), port };
    Observation {
        family: Family::Inet,
        state: TcpState::ESTABLISHED,
        is_mini: false,
        timer: Timer::OFF,
        timer_retransmits: 0,
        tuple: Tuple { local: end(port), remote: end(443), interface: 0 },
        cookie: u64::from(port),
        rqueue: Some(0),
        wqueue: Some(0),
        uid: Some(1_000),
        inode: Some(70_000 + u32::from(port)),
        tcp: TcpInfo { rtt_us: Some(1_234), ..TcpInfo::default() },
        mptcp: MptcpInfo::default(),
        memory: SocketMemory::default(),
        congestion_control: Some("cubic"),
        congestion: None,
        tos: None,
        tclass: None,
        class_id: None,
        shutdown: None,
        v6only: None,
        socket_options: None,
        mark: None,
        cgroup_id: None,
        ulp: None,
        ulp_info: &[],
        info_tail: &[],
        unknown_attributes: Vec::new(),
    }
}

/// A capture that is being written, a snapshot a second; the first is a keyframe.
pub(crate) struct MadeUp {
    pub(crate) writer: Writer,
    pub(crate) start: Start,
    /// Snapshots of a group.
    pub(crate) group_len: i64,
    next: SnapshotId,
    sockets: Vec<Option<SnapshotId>>,
}

impl MadeUp {
    pub(crate) fn begin(path: &Path) -> Self {
        let mut writer = Writer::open(path).unwrap();
        let start = writer.begin_capture(&capture()).unwrap();
        let (netns, states) = (start.netns, States::ALL);
        let (family, protocol) = (Family::Inet, Protocol::Tcp);
        let scope = Scope { netns, family, protocol, states, filter: String::new() };
        writer.add_scope(&start, &scope).unwrap();
        Self { writer, start, group_len: i64::MAX, next: start.next_snapshot, sockets: Vec::new() }
    }

    /// Begins a snapshot with a row of each observation, the n-th being always of the n-th socket.
    /// It is there once it is committed.
    pub(crate) fn snapshot(&mut self, observations: &[Observation<'_>]) -> Unfinished<'_> {
        let (start, id) = (self.start, self.next);
        let index = id.0 - start.next_snapshot.0;
        let group = GroupId(start.next_group.0 + index / self.group_len);
        let is_keyframe = index % self.group_len == 0;
        let mut tick = self.writer.begin_tick().unwrap();
        if is_keyframe {
            tick.begin_group(group, &start, id).unwrap();
        } else {
            tick.set_group(group);
        }
        let mut rows = self.sockets.clone();
        rows.resize(observations.len().max(rows.len()), None);
        let socket = |index| SocketId(start.next_socket.0 + i64::try_from(index).unwrap());
        for (index, observation) in observations.iter().enumerate() {
            if rows[index].is_none() {
                tick.socket(&new_socket(socket(index), &start, id, observation)).unwrap();
            }
        }
        let samples = observations.iter().enumerate().map(|(index, observation)| SampleRow {
            snapshot: id,
            socket: socket(index),
            previous: rows[index],
            observation: observation.clone(),
            times: ActivityTimes::default(),
        });
        tick.samples(samples).unwrap();
        rows[..observations.len()].fill(Some(id));
        let second = id.0 - start.next_snapshot.0 + 1;
        let sockets_seen = rows.len() as u64;
        let (started, ended) = (clocks(second), clocks(second));
        let (missed_ticks, events) = (0, None);
        let snapshot =
            Snapshot { id, group, is_keyframe, started, ended, missed_ticks, sockets_seen, events };
        let done = Done { next: &mut self.next, sockets: &mut self.sockets, rows };
        Unfinished { tick, snapshot, start, done }
    }

    /// When the last snapshot ended.
    pub(crate) fn now(&self) -> Clocks {
        clocks(self.next.0 - self.start.next_snapshot.0)
    }

    /// Ends the capture and closes the file.
    pub(crate) fn end(mut self) {
        self.writer.end_capture(&self.start, EndReason::Count, clocks(3_600), 0).unwrap();
    }
}

/// A snapshot whose rows are written and not committed.
pub(crate) struct Unfinished<'w> {
    pub(crate) tick: TickWriter<'w>,
    snapshot: Snapshot,
    start: Start,
    done: Done<'w>,
}

/// What a commit makes true.
struct Done<'w> {
    next: &'w mut SnapshotId,
    sockets: &'w mut Vec<Option<SnapshotId>>,
    rows: Vec<Option<SnapshotId>>,
}

impl Unfinished<'_> {
    pub(crate) fn commit(self) {
        self.tick.commit(&self.snapshot, &self.start).unwrap();
        *self.done.next = self.snapshot.id.next();
        *self.done.sockets = self.done.rows;
    }
}

fn capture() -> Capture {
    let text = |text: &str| Some(text.to_owned());
    Capture {
        host: HostFacts {
            boot_uuid: "8a1bb8e8-6b8d-4d3c-9f6e-3d3b7a8e2f10".to_owned(),
            host_name: text("host.example"),
            machine_id_hash: None,
            kernel_release: text("6.18.0"),
            architecture: text("x86_64"),
        },
        namespace: NamespaceFacts {
            cookie: Some(1),
            inode: Some(4_026_531_840),
            name: None,
            local_ports: Some((32_768, 60_999)),
        },
        options: "{}".to_owned(),
        source: Source::Live,
        interval_ns: Some(1_000_000_000),
        started: clocks(0),
    }
}

fn new_socket(
    id: SocketId,
    start: &Start,
    first_snapshot: SnapshotId,
    observation: &Observation<'_>,
) -> NewSocket {
    NewSocket {
        id,
        netns: start.netns,
        cookie: observation.cookie,
        generation: 0,
        family: observation.family,
        protocol: Protocol::Tcp,
        tuple: observation.tuple,
        owner: SocketUpdate {
            inode: observation.inode,
            uid: observation.uid,
            cgroup_id: observation.cgroup_id,
            mark: observation.mark,
            interface: None,
        },
        first_snapshot: Some(first_snapshot),
        opened_after: None,
        open_ms: None,
        told: TupleTold::Whole,
        origin: None,
        peer: None,
    }
}
