//! An import: its files in the order of time, what is in them, and the rounds of dumps that they hold.

use std::collections::{BTreeSet, HashSet};
use std::iter::Peekable;
use std::path::PathBuf;

use super::ForeignError;
use super::clock::SteadyClock;
use super::dumps::Assembler;
use super::file::{ForeignFile, Format, Packet, Packets};
use super::raw;
use super::rounds::{Gatherer, Round};
use crate::model::{Asked, Clocks, Family, Nanos, Protocol, States};
use crate::wire::inet_diag::Message;
use crate::wire::request::Request;

/// What was left out of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files that end in the middle of a packet or message.
    pub files_cut: u64,
    /// Files of which what follows a certain place makes no sense.
    pub files_damaged: u64,
    /// Packets of which only a part was captured.
    pub packets_cut: u64,
    /// Packets that the capture itself says were lost.
    pub packets_lost: u64,
    /// Packets that make no sense.
    pub packets_unreadable: u64,
    /// Packets without a time, or with one that is out of range.
    pub packets_timeless: u64,
    /// Packets of a kernel of the other byte order.
    pub packets_of_other_byte_order: u64,
    /// Messages that make no sense.
    pub messages_unreadable: u64,
    /// Dumps whose request was not captured: of which protocol they are is not known.
    pub dumps_without_request: u64,
    /// Dumps of DCCP, SCTP and so on.
    pub dumps_of_other_protocols: u64,
    /// Exact look-ups of one socket.
    pub look_ups: u64,
    /// Dumps of sockets that are never recorded (unix, packet, netlink …). No gap.
    pub other_dumps: u64,
    /// Packets of other netlink protocols and other interfaces. No gap.
    pub other_packets: u64,
}

impl LeftOut {
    /// Whether anything was left out that would have been recorded.
    pub fn is_gap(&self) -> bool {
        let irrelevant = Self {
            other_dumps: self.other_dumps,
            other_packets: self.other_packets,
            ..Self::default()
        };
        *self != irrelevant
    }
}

/// What an import holds.
#[derive(Debug)]
pub struct Contents {
    /// What was asked for, once a family and protocol: the most, or all that was asked for together.
    pub scopes: Vec<Asked>,
    /// When the first round began.
    pub started: Clocks,
    /// When the last round ended.
    pub ended: Clocks,
    /// Dumps.
    pub dumps: u64,
    /// Destroy events.
    pub events: u64,
    /// What is left out.
    pub left_out: LeftOut,
}

/// Whether a dump with this request shows all that is asked for.
pub fn covers(request: &Request, asked: &Asked) -> bool {
    let is_filtered = !request.filter.is_empty() && request.filter != asked.filter;
    request.states.includes(asked.states) && !is_filtered
}

/// Takes in what another dump asked for.
fn widen(asked: &mut Asked, request: &Request) {
    if asked.states == States::NONE {
        asked.filter.clone_from(&request.filter);
    } else if asked.filter != request.filter {
        asked.filter.clear();
    }
    asked.states = asked.states.union(request.states);
}

/// Files that are imported together, as what one machine's kernel said in one boot.
#[derive(Debug)]
pub struct Import {
    files: Vec<ForeignFile>,
}

impl Import {
    /// Finds out what the files are. Raw netlink is of the moment `at_ns` (UTC), or else of the last
    /// change of its file.
    ///
    /// # Errors
    /// When a file cannot be read or is nothing that can be imported.
    pub fn open(paths: &[PathBuf], at_ns: Option<Nanos>) -> Result<Self, ForeignError> {
        let mut files = Vec::with_capacity(paths.len());
        let mut known = HashSet::new();
        for path in paths {
            let file = ForeignFile::open(path, at_ns)?;
            if !known.insert(file.identity) {
                return Err(ForeignError::Twice { path: path.clone() });
            }
            files.push(file);
        }
        files.sort_by_key(|file| file.begins_at_ns);
        Ok(Self { files })
    }

    /// How many of the files are raw netlink, which tells no time.
    pub fn raw_files(&self) -> usize {
        self.files.iter().filter(|file| matches!(file.format, Format::Raw(_))).count()
    }

    /// Reads everything once, to know what it holds.
    ///
    /// # Errors
    /// When a file cannot be read, or none holds a dump or an event.
    pub fn survey(&self) -> Result<Contents, ForeignError> {
        let mut rounds = self.rounds();
        let mut contents: Option<Contents> = None;
        let mut told = BTreeSet::new();
        while let Some(round) = rounds.next_round()? {
            let contents = contents.get_or_insert_with(|| Contents {
                scopes: Vec::new(),
                started: round.started,
                ended: round.ended,
                dumps: 0,
                events: 0,
                left_out: LeftOut::default(),
            });
            contents.ended = round.ended;
            contents.dumps += round.dumps.len() as u64;
            contents.events += round.events.len() as u64;
            for dump in &round.dumps {
                for &family in &dump.families {
                    contents.widen(family, dump.protocol, dump.request.as_ref());
                }
            }
            let messages = round.events.iter().filter_map(|(_, event)| Message::parse(event).ok());
            told.extend(messages.filter_map(|event| Some((event.family(), event.protocol()?))));
        }
        let left_out = rounds.left_out;
        if let Some(contents) = &mut contents {
            contents.add_told(told);
        }
        match contents {
            Some(contents) => Ok(Contents { left_out, ..contents }),
            None => Err(match self.files.first() {
                Some(file) if left_out.packets_of_other_byte_order > 0 => {
                    ForeignError::ByteOrder { path: file.path.clone() }
                }
                _ => ForeignError::Nothing,
            }),
        }
    }

    /// The rounds of dumps, from the first.
    pub fn rounds(&self) -> Rounds<'_> {
        Rounds {
            files: self.files.iter().peekable(),
            streams: Vec::new(),
            clock: SteadyClock::default(),
            assembler: Assembler::default(),
            gatherer: Gatherer::default(),
            raw: None,
            left_out: LeftOut::default(),
        }
    }
}

impl Contents {
    /// Adds what events tell of.
    fn add_told(&mut self, told: BTreeSet<(Family, Protocol)>) {
        for (family, protocol) in told {
            self.widen(family, protocol, None);
        }
    }

    fn widen(&mut self, family: Family, protocol: Protocol, request: Option<&Request>) {
        let is_of_kind = |asked: &Asked| (asked.family, asked.protocol) == (family, protocol);
        let place = self.scopes.iter().position(is_of_kind).unwrap_or_else(|| {
            let (states, filter) = (States::NONE, String::new());
            self.scopes.push(Asked { family, protocol, states, filter });
            self.scopes.len() - 1
        });
        if let Some(request) = request {
            widen(&mut self.scopes[place], request);
        }
    }
}

/// Reads round after round, the packets of all files in the order of time.
pub struct Rounds<'a> {
    /// Those that have not begun.
    files: Peekable<std::slice::Iter<'a, ForeignFile>>,
    streams: Vec<Stream>,
    clock: SteadyClock,
    assembler: Assembler,
    gatherer: Gatherer,
    /// A file of raw netlink, which follows what came before it.
    raw: Option<Round>,
    /// What was left out until now.
    pub left_out: LeftOut,
}

/// A capture that is being read.
struct Stream {
    next: Packet,
    packets: Packets,
}

impl Rounds<'_> {
    /// The next round, `None` behind the last.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_round(&mut self) -> Result<Option<Round>, ForeignError> {
        loop {
            while let Some(item) = self.assembler.items.pop_front() {
                if let Some(round) = self.gatherer.take(item) {
                    return Ok(Some(round));
                }
            }
            if self.raw.is_some() {
                let before = self.gatherer.finish();
                return Ok(before.or_else(|| self.raw.take()));
            }
            if self.read_on()? {
                continue;
            }
            self.assembler.finish();
            if self.assembler.items.is_empty() {
                return Ok(self.gatherer.finish());
            }
        }
    }

    /// Reads the next packet or raw file; false behind the last.
    fn read_on(&mut self) -> Result<bool, ForeignError> {
        let earliest = self.streams.iter().enumerate().min_by_key(|(_, s)| s.next.at_ns);
        let earliest = earliest.map(|(place, stream)| (place, stream.next.at_ns));
        let is_next = |file: &&ForeignFile| {
            earliest.is_none_or(|(_, at_ns)| file.begins_at_ns.is_none_or(|begins| begins <= at_ns))
        };
        if let Some(file) = self.files.next_if(is_next) {
            self.begin(file)?;
            return Ok(true);
        }
        let Some((place, at_ns)) = earliest else { return Ok(false) };
        let stream = &mut self.streams[place];
        let packet = match stream.packets.next(&mut self.left_out)? {
            Some(next) => std::mem::replace(&mut stream.next, next),
            None => self.streams.swap_remove(place).next,
        };
        let at = self.clock.at(at_ns);
        self.assembler.take(at, &packet.datagram, packet.is_cut, &mut self.left_out);
        Ok(true)
    }

    fn begin(&mut self, file: &ForeignFile) -> Result<(), ForeignError> {
        if let Format::Raw(at_ns) = file.format {
            let at = self.clock.at(at_ns);
            self.raw = Some(raw::round(&file.bytes()?, at, &mut self.left_out));
            return Ok(());
        }
        let mut packets = file.packets()?;
        if let Some(next) = packets.next(&mut self.left_out)? {
            self.streams.push(Stream { next, packets });
        }
        Ok(())
    }
}
