//! A kernel and a clock made up for the recorder, and a look at what it recorded.
//!
//! Sockets are real messages of the wire format; what each dump shows and how it ends is scripted
//! tick by tick.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sockrec::filter::{Filter, Services, Vocabulary};
use sockrec::kernel::{DumpEnd, EventBatch, LostSpan};
use sockrec::model::{
    Capture, Clocks, EndReason, Family, HostFacts, Left, LookUp, MadeAt, NamespaceFacts, Place,
    Protocol, Source, States, TcpState, Value,
};
use sockrec::query::{COLUMNS, QueryError, Question, Recording, Selection};
use sockrec::record::{
    Chosen, CpuShare, Event, Inputs, Kernel, Limits, Pace, Plan, RecordError, Summary, Wake,
    in_doubt, run,
};
use sockrec::store::{Capacity, Reader, StoreError, Writer};
use sockrec::wire::inet_diag::Message;

use crate::socket::{FakeEvent, FakeSocket};

pub const SECOND: i64 = 1_000_000_000;
/// 2026-11-21 12:00:00 UTC
pub const START_UTC: i64 = 1_795_262_400 * SECOND;
/// Up for 1,000 s, of which 100 s were spent suspended.
pub const START_MONOTONIC: i64 = 900 * SECOND;
pub const START_BOOTTIME: i64 = 1_000 * SECOND;

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
#[derive(Clone, Copy, Debug, Default)]
pub struct Jump {
    pub utc_ns: i64,
    pub suspended_ns: i64,
    pub late_ns: i64,
}

/// The destroy events of one tick.
#[derive(Default)]
pub struct Told {
    before_dumps: Vec<FakeEvent>,
    while_dumping: Vec<FakeEvent>,
    /// Since the tick before some were lost, so many if that is known.
    losses: Vec<Option<u64>>,
    /// For so long none was read.
    unread_ms: i64,
}

/// A scripted machine.
pub struct World {
    pub dumps: Vec<Dump>,
    pub jumps: HashMap<usize, Jump>,
    pub told: HashMap<usize, Told>,
    pub listens_to_events: bool,
    pub states: States,
    /// None of it is asked of the kernel.
    pub filter: Option<&'static str>,
    /// Of the capture, as JSON.
    pub options: &'static str,
    pub protocol: Protocol,
    pub families: Vec<Family>,
    pub interval_ns: i64,
    pub max_new_sockets: u64,
    pub max_cpu: Option<CpuShare>,
    pub capacity: Capacity,
    /// What each tick takes.
    pub cpu_ns_a_tick: i64,
    pub kernel_release: Option<&'static str>,
    pub boot_uuid: &'static str,
    pub host: &'static str,
    pub begins: Clocks,
    pub directory: tempfile::TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self {
            dumps: Vec::new(),
            jumps: HashMap::new(),
            told: HashMap::new(),
            listens_to_events: false,
            states: States::ALL,
            filter: None,
            options: "{}",
            protocol: Protocol::Tcp,
            families: vec![Family::Inet],
            interval_ns: SECOND,
            max_new_sockets: 100_000,
            max_cpu: None,
            capacity: Capacity::default(),
            cpu_ns_a_tick: 0,
            kernel_release: None,
            boot_uuid: "00000000-0000-4000-8000-000000000001",
            host: "world",
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
    /// One in which destroy events are listened for.
    pub fn with_events() -> Self {
        Self { listens_to_events: true, ..Self::default() }
    }

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

    /// Before the dumps of the next tick these events are read.
    pub fn tells(&mut self, events: &[FakeEvent]) -> &mut Self {
        self.of_next_tick().before_dumps.extend_from_slice(events);
        self
    }

    /// While the dumps of the next tick are made these events are read.
    pub fn tells_while_dumping(&mut self, events: &[FakeEvent]) -> &mut Self {
        let events = events.iter().map(|event| event.ago(0));
        self.of_next_tick().while_dumping.extend(events);
        self
    }

    /// Between the tick before and the next one events are lost.
    pub fn loses_events(&mut self, count: Option<u64>) -> &mut Self {
        self.of_next_tick().losses.push(count);
        self
    }

    /// In the next tick no event has been read for so long.
    pub fn reads_no_events_for(&mut self, ms: i64) -> &mut Self {
        self.of_next_tick().unread_ms = ms;
        self
    }

    fn of_next_tick(&mut self) -> &mut Told {
        assert!(self.listens_to_events);
        self.told.entry(self.dumps.len()).or_default()
    }

    /// After what was recorded and a gap a new script begins, for another capture.
    pub fn goes_on_after(&mut self, gap_ns: i64) -> &mut Self {
        let ticks = i64::try_from(self.dumps.len()).unwrap();
        self.begins = later(self.begins, ticks * self.interval_ns + gap_ns);
        self.dumps.clear();
        self.jumps.clear();
        self.told.clear();
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

    /// From the first snapshot to the last, from when the world began.
    pub fn span_ns(&self) -> (i64, i64) {
        let span = Recording::open(&self.path()).unwrap().span().unwrap().unwrap();
        (span.from_ns - self.begins.utc_ns, span.to_ns - self.begins.utc_ns)
    }

    /// Records the script as far as it goes.
    pub fn try_record(&self) -> (Result<Summary, RecordError>, Vec<Event>) {
        let clock = Cell::new(self.begins);
        let mut kernel = FakeKernel { world: self, tick: 0, clock: &clock, last_taken: None };
        let mut events = Vec::new();
        let result = self.record_with(&clock, &mut kernel, self.dumps.len() as u64, &mut |event| {
            events.push(event.clone());
        });
        (result, events)
    }

    /// Records so many ticks of this kernel.
    pub fn record_with(
        &self,
        clock: &Cell<Clocks>,
        kernel: &mut dyn Kernel,
        ticks: u64,
        listener: &mut dyn FnMut(&Event),
    ) -> Result<Summary, RecordError> {
        let mut pace = FakePace { world: self, tick: 0, clock };
        self.record_paced(&mut pace, kernel, ticks, listener)
    }

    /// Records so many ticks of this kernel, which come when this pace says.
    pub fn record_paced(
        &self,
        pace: &mut dyn Pace,
        kernel: &mut dyn Kernel,
        ticks: u64,
        listener: &mut dyn FnMut(&Event),
    ) -> Result<Summary, RecordError> {
        let plan = Plan {
            chosen: self.filter.map(chosen),
            dumps: self.families.iter().map(|&family| (family, self.protocol)).collect(),
            states: self.states,
            interval_ns: self.interval_ns,
            duration_ns: None,
            count: Some(ticks),
            limits: Limits {
                max_new_sockets: self.max_new_sockets,
                max_cpu: self.max_cpu,
                capacity: self.capacity.clone(),
            },
            finds_owners: false,
        };
        let capture = Capture {
            host: HostFacts {
                boot_uuid: self.boot_uuid.to_owned(),
                host_name: Some(self.host.to_owned()),
                machine_id_hash: Some(format!("the machine of {}", self.host)),
                kernel_release: self.kernel_release.map(str::to_owned),
                architecture: None,
            },
            namespace: NamespaceFacts {
                cookie: Some(1),
                inode: Some(4_026_531_833),
                name: None,
                local_ports: Some((1_000, 1_019)),
            },
            options: self.options.to_owned(),
            source: Source::Live,
            interval_ns: Some(self.interval_ns),
            started: pace.now(),
        };
        let writer = Writer::open(&self.path()).unwrap();
        let inputs = Inputs {
            ended: None,
            kernel,
            pace,
            listener: &mut |event| {
                listener(event);
                // Made-up time runs faster than any disk: do not let it count as a slow one.
                if let Event::Tick(progress) = event
                    && progress.lag > 10
                {
                    self.wait_for_snapshots(progress.snapshots + progress.lag);
                }
            },
        };
        run(&plan, &capture, writer, inputs)
    }

    fn wait_for_snapshots(&self, wanted: u64) {
        let reader = Reader::open(&self.path()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        let stored =
            || reader.integer("SELECT coalesce(max(snapshot_id), 0) FROM snapshots", &[]).unwrap();
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
        sql_of(&self.path(), sql)
    }
}

/// The same of any recording.
pub fn sql_of(path: &Path, sql: &str) -> Vec<String> {
    let mut rows = Vec::new();
    Reader::open(path)
        .unwrap()
        .run(sql, &[], |row| {
            rows.push(row.iter().map(text).collect::<Vec<_>>().join(" "));
            Ok::<_, StoreError>(())
        })
        .unwrap();
    rows
}

fn chosen(filter: &str) -> Chosen {
    let moment = |text: &str| panic!("{text}");
    let vocabulary = Vocabulary {
        columns: COLUMNS,
        answer: &[],
        services: &Services::default(),
        moment: &moment,
    };
    let filter = Filter::parse(filter, &vocabulary).unwrap();
    Chosen { residue: Some(filter.clone()), filter }
}

pub fn text(value: &Value<'_>) -> String {
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
    clock: &'w Cell<Clocks>,
    /// When events were taken for the last time, and in which tick.
    last_taken: Option<(Clocks, usize)>,
}

impl FakeKernel<'_> {
    /// What is left of a connection whose socket is freed, as the dumps from this one on show.
    fn left_by(&self, socket: &FakeSocket, tick: usize) -> Left {
        let mut shown = self.world.dumps[tick..].iter().flat_map(|dump| &dump.shows);
        match shown.find(|other| other.tuple() == socket.tuple()) {
            Some(rest) if rest.is_mini && rest.state == TcpState::FIN_WAIT2 => Left::FinWait2,
            Some(rest) if rest.is_mini && rest.state == TcpState::TIME_WAIT => Left::TimeWait,
            _ => Left::Nothing,
        }
    }
}

impl Kernel for FakeKernel<'_> {
    fn dump(
        &mut self,
        _: Place,
        family: Family,
        _: Protocol,
        states: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
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
            each(&mut socket.message(family, now_ms), MadeAt::just(now_ms));
        }
        // A dump takes a millisecond.
        self.clock.set(later(self.clock.get(), 1_000_000));
        (dump.end)()
    }

    fn listens_to_events(&self) -> bool {
        self.world.listens_to_events
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        let now = self.clock.get();
        let is_after_dumps = self.last_taken.is_some_and(|(_, tick)| tick < self.tick);
        let before = self.last_taken.map_or(self.world.begins, |(at, _)| at);
        let tick = self.tick - usize::from(is_after_dumps);
        self.last_taken = Some((now, self.tick));
        let told = self.world.told.get(&tick);
        let unread_ms = told.map_or(0, |told| told.unread_ms);
        batch.read_until_ns = Some(now.monotonic_ns - unread_ms * 1_000_000);
        let Some(told) = told else { return };
        let events = if is_after_dumps { &told.while_dumping } else { &told.before_dumps };
        for event in events {
            let received = later(now, -event.ago_ms * 1_000_000);
            let sent = later(received, -event.unread_ms * 1_000_000);
            let (family, protocol) = (self.world.dumps[tick].family, self.world.protocol);
            let payload = event.message(protocol, family, sent.monotonic_ms());
            batch.push(&payload, received, sent.boottime_ns);
            if in_doubt(false)(&Message::parse(&payload).unwrap())
                && let Some(after_ns) = event.look_up_ns
            {
                let left = self.left_by(event.socket(), tick + usize::from(is_after_dumps));
                batch.look_up_last(LookUp { at: later(received, after_ns), left });
            }
        }
        if !is_after_dumps {
            let spans = told.losses.iter().map(|&count| LostSpan { from: before, to: now, count });
            batch.losses.extend(spans);
        }
    }
}

pub fn later(clocks: Clocks, ns: i64) -> Clocks {
    Clocks {
        utc_ns: clocks.utc_ns + ns,
        monotonic_ns: clocks.monotonic_ns + ns,
        boottime_ns: clocks.boottime_ns + ns,
    }
}

struct FakePace<'w> {
    world: &'w World,
    tick: usize,
    clock: &'w Cell<Clocks>,
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

    fn cpu_ns(&self) -> i64 {
        i64::try_from(self.tick).unwrap() * self.world.cpu_ns_a_tick
    }
}
