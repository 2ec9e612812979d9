//! Files: what they are, and the packets of captures.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::ForeignError;
use super::dumps::is_of_other_byte_order;
use super::import::LeftOut;
use super::raw::is_raw;
use crate::model::Nanos;
use crate::wire::pcap::{
    self, ByteOrder, FILE_HEADER_LEN, FileHeader, LINKTYPE_NETLINK, RECORD_HEADER_LEN,
};
use crate::wire::pcapng::{self, Block, Interface};

/// A datagram of netlink has 32 KiB at most; what claims to be larger than this is damage.
const PACKET_MAX: u32 = 16 << 20;
/// `NETLINK_SOCK_DIAG`
const NETLINK_SOCK_DIAG: u16 = 4;

/// What a file is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// Raw netlink of this moment, UTC.
    Raw(Nanos),
    Pcap(FileHeader),
    Pcapng,
}

/// A file that can be imported.
#[derive(Clone, Debug)]
pub(super) struct ForeignFile {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// Device and inode.
    pub(super) identity: (u64, u64),
    /// When what is in it begins, UTC; `None` if nothing does.
    pub(super) begins_at_ns: Option<Nanos>,
}

/// A packet of an nlmon interface that carries sock_diag.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) at_ns: Nanos,
    pub(super) datagram: Vec<u8>,
    /// Its end was not captured.
    pub(super) is_cut: bool,
}

impl ForeignFile {
    /// Finds out what a file is. Raw netlink is of this moment, or else of the last change of the file.
    pub(super) fn open(path: &Path, at_ns: Option<Nanos>) -> Result<Self, ForeignError> {
        let error = |source| ForeignError::Read { path: path.to_owned(), source };
        let mut file = open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(64 * 1024).read_to_end(&mut start).map_err(error)?;
        let format = match start.as_slice() {
            [] => return Err(ForeignError::Empty { path: path.to_owned() }),
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Format::Pcapng,
            start => match start.first_chunk().and_then(pcap::file_header) {
                Some(header) => Format::Pcap(header),
                None if is_raw(start) => {
                    let changed = file.metadata().and_then(|m| m.modified()).map_err(error)?;
                    let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let changed_ns = Nanos::try_from(changed.as_nanos()).unwrap_or(Nanos::MAX);
                    Format::Raw(at_ns.unwrap_or(changed_ns))
                }
                None => return Err(unknown(path, start)),
            },
        };
        if let Format::Pcap(header) = format
            && header.link_type != LINKTYPE_NETLINK
        {
            let found = format!("link type {}", header.link_type);
            return Err(ForeignError::LinkType { path: path.to_owned(), found });
        }
        let meta = file.metadata().map_err(error)?;
        let identity = (meta.dev(), meta.ino());
        let mut found = Self { path: path.to_owned(), format, identity, begins_at_ns: None };
        found.begins_at_ns = match format {
            Format::Raw(at_ns) => Some(at_ns),
            _ => found.packets()?.next(&mut LeftOut::default())?.map(|packet| packet.at_ns),
        };
        Ok(found)
    }

    /// All of its bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, ForeignError> {
        let mut bytes = Vec::new();
        open(&self.path)?.read_to_end(&mut bytes).map_err(|e| self.read_error(e))?;
        Ok(bytes)
    }

    /// Its packets, if it is a capture.
    pub(super) fn packets(&self) -> Result<Packets, ForeignError> {
        let mut reader = BufReader::with_capacity(1 << 18, open(&self.path)?);
        if let Format::Pcap(_) = self.format {
            reader.read_exact(&mut [0; FILE_HEADER_LEN]).map_err(|e| self.read_error(e))?;
        }
        Ok(Packets {
            file: self.clone(),
            reader,
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            other_link_types: Vec::new(),
            has_netlink: matches!(self.format, Format::Pcap(_)),
            is_over: false,
        })
    }

    fn read_error(&self, source: io::Error) -> ForeignError {
        ForeignError::Read { path: self.path.clone(), source }
    }
}

fn open(path: &Path) -> Result<File, ForeignError> {
    let error = |source| ForeignError::Open { path: path.to_owned(), source };
    // Opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(error)?.is_file() {
        let message = "it is read more than once and must be a file";
        return Err(error(io::Error::new(io::ErrorKind::InvalidInput, message)));
    }
    File::open(path).map_err(error)
}

fn unknown(path: &Path, start: &[u8]) -> ForeignError {
    let path = path.to_owned();
    let compressed = |format| ForeignError::Compressed { path: path.clone(), format };
    match start {
        [0x1f, 0x8b, ..] => compressed("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => compressed("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => compressed("xz"),
        [b'B', b'Z', b'h', ..] => compressed("bzip2"),
        _ if is_of_other_byte_order(start) => ForeignError::ByteOrder { path },
        _ => ForeignError::Unknown { path },
    }
}

/// How much of what was wanted was there.
enum Filled {
    Whole,
    Nothing,
    Part,
}

/// The packets of a capture, one after the other.
pub(super) struct Packets {
    file: ForeignFile,
    reader: BufReader<File>,
    /// Of the section, in pcapng.
    order: ByteOrder,
    interfaces: Vec<Interface>,
    other_link_types: Vec<u16>,
    has_netlink: bool,
    is_over: bool,
}

impl Packets {
    /// The next packet with sock_diag in it, `None` behind the last. Where the file is cut or damaged
    /// it ends.
    pub(super) fn next(&mut self, out: &mut LeftOut) -> Result<Option<Packet>, ForeignError> {
        while !self.is_over {
            let packet = match self.file.format {
                Format::Raw(_) => None,
                Format::Pcap(header) => self.next_record(header, out)?,
                Format::Pcapng => self.next_block(out)?,
            };
            if packet.is_some() {
                return Ok(packet);
            }
        }
        if !self.has_netlink && !self.other_link_types.is_empty() {
            let mut found: Vec<_> =
                self.other_link_types.iter().map(|kind| format!("link type {kind}")).collect();
            found.dedup();
            let path = self.file.path.clone();
            return Err(ForeignError::LinkType { path, found: found.join(", ") });
        }
        Ok(None)
    }

    fn next_record(
        &mut self,
        header: FileHeader,
        out: &mut LeftOut,
    ) -> Result<Option<Packet>, ForeignError> {
        let mut bytes = [0; RECORD_HEADER_LEN];
        if !self.fill(&mut bytes, false, out)? {
            return Ok(None);
        }
        let Some(record) = header.record(&bytes).filter(|r| r.captured <= PACKET_MAX) else {
            self.damaged(out);
            return Ok(None);
        };
        let mut packet = vec![0; record.captured as usize];
        if !self.fill(&mut packet, true, out)? {
            return Ok(None);
        }
        Ok(datagram(&packet, record.at_ns, record.original, out))
    }

    fn next_block(&mut self, out: &mut LeftOut) -> Result<Option<Packet>, ForeignError> {
        let mut head = [0; 12];
        if !self.fill(&mut head[..8], false, out)? {
            return Ok(None);
        }
        let is_section = head[..4] == pcapng::SECTION_HEADER.to_ne_bytes();
        let mut body_start = 0;
        if is_section {
            if !self.fill(&mut head[8..], true, out)? {
                return Ok(None);
            }
            let [.., a, b, c, d] = head;
            let Some(order) = pcapng::section_order([a, b, c, d]) else {
                self.damaged(out);
                return Ok(None);
            };
            (self.order, body_start) = (order, 4);
            self.interfaces.clear();
        }
        let field = |offset| self.order.u32_at(&head, offset).unwrap_or_default();
        let (kind, len) = (field(0), field(4));
        let rest_len = len.checked_sub(8 + body_start).filter(|&rest| rest >= 4);
        let Some(rest_len) = rest_len.filter(|&rest| rest <= PACKET_MAX && len % 4 == 0) else {
            self.damaged(out);
            return Ok(None);
        };
        let mut rest = vec![0; rest_len as usize];
        if !self.fill(&mut rest, true, out)? {
            return Ok(None);
        }
        let (body, end) = rest.split_at(rest.len() - 4);
        if self.order.u32_at(end, 0) != Some(len) {
            self.damaged(out);
            return Ok(None);
        }
        if is_section {
            return Ok(None);
        }
        Ok(self.take_block(kind, body, out))
    }

    fn take_block(&mut self, kind: u32, body: &[u8], out: &mut LeftOut) -> Option<Packet> {
        let Ok(block) = pcapng::block(kind, body, self.order) else {
            out.packets_unreadable += 1;
            return None;
        };
        match block {
            Block::Interface(interface) => {
                if interface.link_type == LINKTYPE_NETLINK {
                    self.has_netlink = true;
                } else {
                    self.other_link_types.push(interface.link_type);
                }
                self.interfaces.push(interface);
                None
            }
            Block::Packet(packet) => {
                let Some(interface) = self.interface(packet.interface) else {
                    out.packets_unreadable += 1;
                    return None;
                };
                if interface.link_type != LINKTYPE_NETLINK {
                    out.other_packets += 1;
                    return None;
                }
                let Some(at_ns) = interface.at_ns(packet.at) else {
                    out.packets_timeless += 1;
                    return None;
                };
                datagram(packet.bytes, at_ns, packet.original, out)
            }
            Block::Timeless => {
                out.packets_timeless += 1;
                None
            }
            Block::Lost { interface, packets } => {
                let is_netlink = |i: &Interface| i.link_type == LINKTYPE_NETLINK;
                if self.interface(interface).is_some_and(is_netlink) {
                    out.packets_lost += packets;
                }
                None
            }
            Block::Other => None,
        }
    }

    fn interface(&self, number: u32) -> Option<&Interface> {
        self.interfaces.get(usize::try_from(number).ok()?)
    }

    fn damaged(&mut self, out: &mut LeftOut) {
        out.files_damaged += 1;
        self.is_over = true;
    }

    /// Fills the buffer; false at the end of the file, which is right only between two packets.
    fn fill(
        &mut self,
        buffer: &mut [u8],
        is_within: bool,
        out: &mut LeftOut,
    ) -> Result<bool, ForeignError> {
        let filled = fill(&mut self.reader, buffer);
        match filled.map_err(|e| self.file.read_error(e))? {
            Filled::Whole => return Ok(true),
            Filled::Nothing if !is_within => {}
            Filled::Nothing | Filled::Part => out.files_cut += 1,
        }
        self.is_over = true;
        Ok(false)
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<Filled> {
    let mut done = 0;
    while done < buffer.len() {
        match reader.read(&mut buffer[done..]) {
            Ok(0) if done == 0 => return Ok(Filled::Nothing),
            Ok(0) => return Ok(Filled::Part),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Filled::Whole)
}

fn datagram(packet: &[u8], at_ns: Nanos, original: u32, out: &mut LeftOut) -> Option<Packet> {
    let is_cut = packet.len() < original as usize;
    match pcap::cooked(packet) {
        Ok((NETLINK_SOCK_DIAG, datagram)) => {
            out.packets_cut += u64::from(is_cut);
            Some(Packet { at_ns, datagram: datagram.to_vec(), is_cut })
        }
        Ok(_) => {
            out.other_packets += 1;
            None
        }
        Err(_) => {
            out.packets_unreadable += 1;
            None
        }
    }
}
