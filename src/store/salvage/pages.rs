//! The pages of a damaged file, and what its write-ahead log holds of them (sqlite.org/fileformat2).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::file::log_path;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const USUAL_PAGE_SIZE: usize = 4_096;
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// A file page by page, with the log laid over it.
pub(super) struct Pages {
    file: File,
    log: Option<Log>,
    pub(super) page_size: usize,
    /// Bytes of a page that hold something.
    pub(super) usable: usize,
    /// Pages that there are.
    pub(super) count: u32,
    /// Pages that there were by what the file says of itself; many if that is lost.
    pub(super) told: u32,
    /// What is wrong with the file as a whole.
    pub(super) faults: Vec<String>,
    /// Raised when no page is wanted any more.
    stop: Arc<AtomicBool>,
}

/// The committed pages of a write-ahead log.
struct Log {
    file: File,
    /// Where the latest version of each page lies.
    offsets: HashMap<u32, u64>,
    pages: u32,
}

impl Pages {
    pub(super) fn open(path: &Path, stop: &Arc<AtomicBool>) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut header = [0; 100];
        let has_header = file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(MAGIC);
        let mut faults = Vec::new();
        let told = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let told = if told == 1 { 65_536 } else { told };
        let is_size = told.is_power_of_two() && told >= 512;
        let page_size = if has_header && is_size { told } else { USUAL_PAGE_SIZE };
        if !has_header {
            faults.push("its header is lost".to_owned());
        }
        let reserved = if has_header { usize::from(header[20]) } else { 0 };
        let whole = u32::try_from(len / page_size as u64).unwrap_or(u32::MAX);
        let in_header = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
        let log = match Log::open(&log_path(path), page_size, &mut faults) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => other?,
        };
        let count = log.as_ref().map_or(0, |log| log.pages).max(whole);
        if has_header && log.is_none() && in_header > whole {
            faults.push(format!("it was cut off: of {in_header} pages {whole} are there"));
        }
        let told = match &log {
            Some(log) if log.pages > 0 => log.pages,
            _ if has_header => in_header,
            _ => u32::MAX,
        };
        let usable = page_size.saturating_sub(reserved).max(480);
        let stop = Arc::clone(stop);
        Ok(Self { file, log, page_size, usable, count, told, faults, stop })
    }

    /// A page, counted from 1; `None` if it is not there, or all is to be stopped.
    pub(super) fn page(&self, number: u32) -> Option<Vec<u8>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let mut page = vec![0; self.page_size];
        let in_log =
            self.log.as_ref().and_then(|log| Some((&log.file, *log.offsets.get(&number)?)));
        let at = u64::from(number.checked_sub(1)?) * self.page_size as u64;
        let (file, at) = in_log.unwrap_or((&self.file, at));
        file.read_exact_at(&mut page, at).ok().map(|()| page)
    }
}

impl Log {
    /// What was committed, up to the first frame that is not whole.
    fn open(path: &Path, page_size: usize, faults: &mut Vec<String>) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut header = [0; WAL_HEADER];
        if len == 0 {
            return Ok(None);
        }
        if file.read_exact(&mut header).is_err() {
            faults.push("its log is cut off within its header".to_owned());
            return Ok(None);
        }
        let magic = word(&header, 0);
        let is_big_endian = magic & 1 == 1;
        let mut sum = checksum((0, 0), &header[..24], is_big_endian);
        if magic & !1 != 0x377f_0682
            || word(&header, 8) as usize != page_size
            || sum != (word(&header, 24), word(&header, 28))
        {
            faults
                .push("the header of its log is damaged: what stood only there is lost".to_owned());
            return Ok(None);
        }
        let mut frame = vec![0; FRAME_HEADER + page_size];
        let mut log = Self { file: file.try_clone()?, offsets: HashMap::new(), pages: 0 };
        let mut uncommitted: Vec<(u32, u64)> = Vec::new();
        let mut at = WAL_HEADER as u64;
        while file.read_exact(&mut frame).is_ok() {
            // Of an earlier round of the log: it ends here.
            if frame[8..16] != header[16..24] {
                return Ok(Some(log));
            }
            sum = checksum(sum, &frame[..8], is_big_endian);
            sum = checksum(sum, &frame[FRAME_HEADER..], is_big_endian);
            if sum != (word(&frame, 16), word(&frame, 20)) {
                break;
            }
            uncommitted.push((word(&frame, 0), at + FRAME_HEADER as u64));
            if word(&frame, 4) > 0 {
                log.pages = word(&frame, 4);
                log.offsets.extend(uncommitted.drain(..));
            }
            at += frame.len() as u64;
        }
        if at < len {
            let lost = (len - at).div_ceil(frame.len() as u64);
            faults
                .push(format!("its log is damaged or cut off: {lost} pages of it were not taken"));
        }
        Ok(Some(log))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

/// The checksum of the log.
fn checksum(before: (u32, u32), bytes: &[u8], is_big_endian: bool) -> (u32, u32) {
    let (mut a, mut b) = before;
    for pair in bytes.chunks_exact(8) {
        let of = |at| {
            let word = word(pair, at);
            if is_big_endian { word } else { word.swap_bytes() }
        };
        a = a.wrapping_add(of(0)).wrapping_add(b);
        b = b.wrapping_add(of(4)).wrapping_add(a);
    }
    (a, b)
}
