//! An import: its files in the order of time, what is in them, and the rounds of dumps that they hold.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::ForeignError;
use super::clock::SteadyClock;
use super::dumps::Assembler;
use super::file::{ForeignFile, Format, Packets};
use super::raw;
use super::rounds::{Gatherer, Round};
use crate::model::{Clocks, Family, Nanos, Protocol, States};
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

/// What the dumps of one family and protocol asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The states; [`States::NONE`] where nobody's request is known.
    pub states: States,
    /// What narrowed it down, empty for nothing.
    pub filter: String,
}

impl Asked {
    /// Whether a dump with this request shows all of it.
    pub fn is_covered_by(&self, request: &Request) -> bool {
        let is_filtered = !request.filter.is_empty() && request.filter != self.filter;
        request.states.includes(self.states) && !is_filtered
    }

    /// Takes in what another dump asked for.
    fn widen(&mut self, request: &Request) {
        if self.states == States::NONE {
            self.filter.clone_from(&request.filter);
        } else if self.filter != request.filter {
            self.filter.clear();
        }
        self.states = self.states.union(request.states);
    }
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
        for path in paths {
            let file = ForeignFile::open(path, at_ns)?;
            files.push((file.begins_at()?, file));
        }
        files.sort_by_key(|(begins_at, _)| *begins_at);
        Ok(Self { files: files.into_iter().map(|(_, file)| file).collect() })
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
            files: self.files.iter(),
            packets: None,
            clock: SteadyClock::default(),
            assembler: Assembler::default(),
            gatherer: Gatherer::default(),
            waiting: None,
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
            self.scopes[place].widen(request);
        }
    }
}

/// Reads round after round.
pub struct Rounds<'a> {
    files: std::slice::Iter<'a, ForeignFile>,
    packets: Option<Packets>,
    clock: SteadyClock,
    assembler: Assembler,
    gatherer: Gatherer,
    /// A whole snapshot that follows the captures before it.
    waiting: Option<Round>,
    /// What was left out until now.
    pub left_out: LeftOut,
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
            if let Some(round) = self.waiting.take() {
                if let Some(before) = self.gatherer.finish() {
                    self.waiting = Some(round);
                    return Ok(Some(before));
                }
                return Ok(Some(round));
            }
            if self.read_packet()? || self.begin_file()? {
                continue;
            }
            self.assembler.finish();
            if self.assembler.items.is_empty() {
                return Ok(self.gatherer.finish());
            }
        }
    }

    /// Reads on in the capture; false at its end.
    fn read_packet(&mut self) -> Result<bool, ForeignError> {
        let Some(packets) = &mut self.packets else { return Ok(false) };
        let packet = packets.next(&mut self.left_out)?;
        if let Some(packet) = &packet {
            let at = self.clock.at(packet.at_ns);
            self.assembler.take(at, &packet.datagram, packet.is_cut, &mut self.left_out);
        }
        Ok(packet.is_some())
    }

    /// Goes on to the next file; false behind the last. A dump may go on in the next file of a
    /// capture that was split.
    fn begin_file(&mut self) -> Result<bool, ForeignError> {
        self.packets = None;
        let Some(file) = self.files.next() else { return Ok(false) };
        if let Format::Raw(at_ns) = file.format {
            self.assembler.finish();
            let at = self.clock.at(at_ns);
            self.waiting = Some(raw::round(&file.bytes()?, at, &mut self.left_out));
        } else {
            self.packets = Some(file.packets()?);
        }
        Ok(true)
    }
}
