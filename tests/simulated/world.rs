//! A kernel and a clock made up for the recorder, and a look at what it recorded.
//!
//! Sockets are real messages of the wire format; what each dump shows and how it ends is scripted
//! tick by tick.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sockrec::kernel::DumpEnd;
use sockrec::model::{
    Capture, Clocks, EndReason, Family, HostFacts, NamespaceFacts, Protocol, States, TcpState,
    Value,
};
use sockrec::query::{QueryError, Question, Recording, Selection};
use sockrec::record::{Event, Inputs, Kernel, Pace, Plan, RecordError, Summary, Wake, run};
use sockrec::store::{Reader, StoreError, Writer};

pub const SECOND: i64 = 1_000_000_000;
/// 2026-11-21 12:00:00 UTC
pub const START_UTC: i64 = 1_795_262_400 * SECOND;
/// Up for 1,000 s, of which 100 s were spent suspended.
pub const START_MONOTONIC: i64 = 900 * SECOND;
pub const START_BOOTTIME: i64 = 1_000 * SECOND;

/// A TCP socket as inet_diag would tell of it.
#[derive(Clone, Debug)]
pub struct FakeSocket {
    pub cookie: u64,
    pub state: TcpState,
    pub local_port: u16,
    pub remote_port: u16,
    pub inode: u32,
    pub uid: u32,
    pub rqueue: u32,
    pub wqueue: u32,
    pub bytes_sent: u64,
    pub segs_out: u32,
    pub rtt_us: u32,
    /// Milliseconds of CLOCK_MONOTONIC.
    pub last_data_sent_at_ms: i64,
}

impl FakeSocket {
    pub fn established(cookie: u64, local_port: u16, remote_port: u16) -> Self {
        Self {
            cookie,
            state: TcpState::ESTABLISHED,
            local_port,
            remote_port,
            inode: 10_000 + u32::from(local_port),
            uid: 1_000,
            rqueue: 0,
            wqueue: 0,
            bytes_sent: 100,
            segs_out: 3,
            rtt_us: 250,
            last_data_sent_at_ms: START_MONOTONIC / 1_000_000 - 5_000,
        }
    }

    pub fn listener(cookie: u64, local_port: u16, backlog: u32, limit: u32) -> Self {
        Self {
            state: TcpState::LISTEN,
            rqueue: backlog,
            wqueue: limit,
            ..Self::established(cookie, local_port, 0)
        }
    }

    pub fn in_state(&self, state: TcpState) -> Self {
        Self { state, ..self.clone() }
    }

    /// The mini-socket that is left of it.
    pub fn time_wait(&self) -> Self {
        Self { inode: 0, uid: 0, ..self.in_state(TcpState::TIME_WAIT) }
    }

    pub fn sent(&self, bytes: u64) -> Self {
        Self { bytes_sent: self.bytes_sent + bytes, segs_out: self.segs_out + 1, ..self.clone() }
    }

    /// The payload of its SOCK_DIAG_BY_FAMILY message when asked at this moment.
    fn message(&self, family: Family, now_ms: i64) -> Vec<u8> {
        let is_mini = self.state == TcpState::TIME_WAIT;
        let mut m = vec![0; 72];
        m[0] = family.number();
        m[1] = self.state.0;
        m[2] = if is_mini { 3 } else { 0 };
        m[4..6].copy_from_slice(&self.local_port.to_be_bytes());
        m[6..8].copy_from_slice(&self.remote_port.to_be_bytes());
        m[8..12].copy_from_slice(&[127, 0, 0, 1]);
        m[24..28].copy_from_slice(if self.remote_port == 0 { &[0; 4] } else { &[127, 0, 0, 2] });
        m[44..52].copy_from_slice(&self.cookie.to_ne_bytes());
        let words = [(56, self.rqueue), (60, self.wqueue), (64, self.uid), (68, self.inode)];
        for (offset, value) in words {
            m[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        if is_mini {
            let left_ms = u32::try_from(START_MONOTONIC / 1_000_000 + 600_000 - now_ms).unwrap();
            m[52..56].copy_from_slice(&left_ms.to_ne_bytes());
            return m;
        }
        let mut info = vec![0; 280];
        info[0] = self.state.0;
        info[8..12].copy_from_slice(&204_000u32.to_ne_bytes());
        let ago = u32::try_from((now_ms - self.last_data_sent_at_ms).max(0)).unwrap();
        info[44..48].copy_from_slice(&ago.to_ne_bytes());
        info[56..60].copy_from_slice(&ago.to_ne_bytes());
        info[68..72].copy_from_slice(&self.rtt_us.to_ne_bytes());
        info[72..76].copy_from_slice(&50u32.to_ne_bytes());
        info[136..140].copy_from_slice(&self.segs_out.to_ne_bytes());
        info[140..144].copy_from_slice(&self.segs_out.to_ne_bytes());
        info[156..160].copy_from_slice(&self.segs_out.to_ne_bytes());
        info[200..208].copy_from_slice(&self.bytes_sent.to_ne_bytes());
        attribute(&mut m, 2, &info);
        attribute(&mut m, 4, b"cubic\0");
        m
    }
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap();
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// What the dump of one family shows in one tick, and how it ends.
pub struct Dump {
    pub family: Family,
    pub shows: Vec<FakeSocket>,
    pub end: fn() -> DumpEnd,
}

pub fn complete() -> DumpEnd {
    DumpEnd::Complete
}

pub fn failed() -> DumpEnd {
    DumpEnd::Failed { errno: Some(12), message: "Cannot allocate memory".to_owned() }
}

pub fn interrupted() -> DumpEnd {
    DumpEnd::Interrupted
}

pub fn unsupported() -> DumpEnd {
    DumpEnd::Unsupported
}

/// How the clocks move between two ticks, beside the interval.
#[derive(Clone, Copy, Default)]
pub struct Jump {
    pub utc_ns: i64,
    pub suspended_ns: i64,
    pub late_ns: i64,
}

/// A scripted machine.
pub struct World {
    pub dumps: Vec<Dump>,
    pub jumps: HashMap<usize, Jump>,
    pub states: States,
    pub protocol: Protocol,
    pub families: Vec<Family>,
    pub interval_ns: i64,
    pub max_new_sockets: u64,
    pub boot_uuid: &'static str,
    pub begins: Clocks,
    pub directory: tempfile::TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self {
            dumps: Vec::new(),
            jumps: HashMap::new(),
            states: States::ALL,
            protocol: Protocol::Tcp,
            families: vec![Family::Inet],
            interval_ns: SECOND,
            max_new_sockets: 50_000,
            boot_uuid: "00000000-0000-4000-8000-000000000001",
            begins: Clocks {
                utc_ns: START_UTC,
                monotonic_ns: START_MONOTONIC,
                boottime_ns: START_BOOTTIME,
            },
            directory: tempfile::tempdir().unwrap(),
        }
    }
}

impl World {
    /// The next tick shows these sockets, in a complete dump.
    pub fn shows(&mut self, sockets: &[&FakeSocket]) -> &mut Self {
        self.ends(sockets, complete)
    }

    /// The next tick shows these sockets in the dump of this family, and none in others.
    pub fn shows_in(&mut self, family: Family, sockets: &[&FakeSocket]) -> &mut Self {
        self.shows(sockets);
        if let Some(dump) = self.dumps.last_mut() {
            dump.family = family;
        }
        self
    }

    /// The next tick shows these sockets, in a dump that ends like this.
    pub fn ends(&mut self, sockets: &[&FakeSocket], end: fn() -> DumpEnd) -> &mut Self {
        let shows = sockets.iter().map(|s| (*s).clone()).collect();
        self.dumps.push(Dump { family: Family::Inet, shows, end });
        self
    }

    /// Before the next tick the clocks jump.
    pub fn jumps(&mut self, jump: Jump) -> &mut Self {
        self.jumps.insert(self.dumps.len(), jump);
        self
    }

    /// After what was recorded and a gap a new script begins, for another capture.
    pub fn goes_on_after(&mut self, gap_ns: i64) -> &mut Self {
        let ticks = i64::try_from(self.dumps.len()).unwrap();
        self.begins = later(self.begins, ticks * self.interval_ns + gap_ns);
        self.dumps.clear();
        self.jumps.clear();
        self
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("world.db")
    }

    /// Records the whole script.
    pub fn record(&self) -> (Summary, Vec<Event>) {
        let (result, events) = self.try_record();
        let summary = result.unwrap();
        assert_eq!(summary.reason, EndReason::Count);
        (summary, events)
    }

    /// Records the script as far as it goes.
    pub fn try_record(&self) -> (Result<Summary, RecordError>, Vec<Event>) {
        let mut events = Vec::new();
        let clock = std::cell::Cell::new(self.begins);
        let plan = Plan {
            dumps: self.families.iter().map(|&family| (family, self.protocol)).collect(),
            states: self.states,
            interval_ns: self.interval_ns,
            duration_ns: None,
            count: Some(self.dumps.len() as u64),
            max_new_sockets: self.max_new_sockets,
            finds_owners: false,
        };
        let capture = Capture {
            host: HostFacts {
                boot_uuid: self.boot_uuid.to_owned(),
                host_name: Some("world".to_owned()),
                machine_id_hash: Some("the machine".to_owned()),
                kernel_release: None,
                architecture: None,
            },
            namespace: NamespaceFacts { cookie: Some(1), inode: Some(4_026_531_833), name: None },
            options: "{}".to_owned(),
            interval_ns: self.interval_ns,
            started: clock.get(),
        };
        let writer = Writer::open(&self.path()).unwrap();
        let inputs = Inputs {
            ended: None,
            kernel: &mut FakeKernel { world: self, tick: 0, clock: &clock },
            pace: &mut FakePace { world: self, tick: 0, clock: &clock },
            listener: &mut |event| {
                events.push(event.clone());
                // Made-up time runs faster than any disk: do not let it count as a slow one.
                if let Event::Tick(progress) = event
                    && progress.lag > 10
                {
                    self.wait_for_snapshots(progress.snapshots + progress.lag);
                }
            },
        };
        let result = run(&plan, &capture, writer, inputs);
        (result, events)
    }

    fn wait_for_snapshots(&self, wanted: u64) {
        let reader = Reader::open(&self.path()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let stored = || reader.integer("SELECT count(*) FROM snapshots", &[]).unwrap();
        while stored() < i64::try_from(wanted).ok() {
            assert!(Instant::now() < deadline, "the writer stores nothing");
            std::thread::yield_now();
        }
    }

    /// Rows of an answer, each as `column=value` in the order asked for, unknown values as `-`.
    pub fn answer(&self, question: Question, columns: &[&str]) -> Vec<String> {
        let recording = Recording::open(&self.path()).unwrap();
        let columns: Vec<_> = columns.iter().map(|c| (*c).to_owned()).collect();
        let selection = Selection { columns: columns.clone(), ..Selection::default() };
        let mut rows = Vec::new();
        recording
            .answer(question, &selection, |row| {
                let cells = row.iter().zip(&columns).map(|(v, c)| format!("{c}={}", text(v)));
                rows.push(cells.collect::<Vec<_>>().join(" "));
                Ok::<_, QueryError>(())
            })
            .unwrap();
        rows
    }

    /// Rows of plain SQL, values separated by a blank.
    pub fn sql(&self, sql: &str) -> Vec<String> {
        let mut rows = Vec::new();
        Reader::open(&self.path())
            .unwrap()
            .run(sql, &[], |row| {
                rows.push(row.iter().map(text).collect::<Vec<_>>().join(" "));
                Ok::<_, StoreError>(())
            })
            .unwrap();
        rows
    }
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Integer(v) => v.to_string(),
        Value::Real(v) => v.to_string(),
        Value::Text(v) => (*v).to_owned(),
        Value::Bytes(v) => format!("{v:?}"),
    }
}

struct FakeKernel<'w> {
    world: &'w World,
    tick: usize,
    clock: &'w std::cell::Cell<Clocks>,
}

impl Kernel for FakeKernel<'_> {
    fn dump(
        &mut self,
        family: Family,
        _: Protocol,
        states: States,
        each: &mut dyn FnMut(&mut [u8], i64),
    ) -> DumpEnd {
        let dump = &self.world.dumps[self.tick];
        if self.world.families.last() == Some(&family) {
            self.tick += 1;
        }
        if dump.family != family {
            return DumpEnd::Complete;
        }
        for socket in dump.shows.iter().filter(|s| states.contains(s.state)) {
            let now_ms = self.clock.get().monotonic_ms();
            each(&mut socket.message(family, now_ms), now_ms);
        }
        // A dump takes a millisecond.
        self.clock.set(later(self.clock.get(), 1_000_000));
        (dump.end)()
    }
}

fn later(clocks: Clocks, ns: i64) -> Clocks {
    Clocks {
        utc_ns: clocks.utc_ns + ns,
        monotonic_ns: clocks.monotonic_ns + ns,
        boottime_ns: clocks.boottime_ns + ns,
    }
}

struct FakePace<'w> {
    world: &'w World,
    tick: usize,
    clock: &'w std::cell::Cell<Clocks>,
}

impl Pace for FakePace<'_> {
    fn now(&self) -> Clocks {
        self.clock.get()
    }

    fn wait_until(&mut self, due_ns: i64) -> Wake {
        let jump = self.world.jumps.get(&self.tick).copied().unwrap_or_default();
        self.tick += 1;
        let now = self.clock.get();
        let mut now = later(now, (due_ns - now.monotonic_ns).max(0) + jump.late_ns);
        now.utc_ns += jump.utc_ns + jump.suspended_ns;
        now.boottime_ns += jump.suspended_ns;
        self.clock.set(now);
        Wake::Due
    }
}
