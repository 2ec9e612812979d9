//! What stands on one page: cells and records (sqlite.org/fileformat2). Nothing is taken on trust.

use rusqlite::types::Value;

use super::pages::Pages;

/// Longer than any row of a recording: a chain of pages that is longer is damage.
const LONGEST_ROW: usize = 1 << 20;

/// What a page of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TableLeaf,
    TableInterior,
    IndexLeaf,
    IndexInterior,
}

/// A page of a tree, read as far as it goes.
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) children: Vec<u32>,
    /// Each with its rowid, where the tree has those.
    pub(super) rows: Vec<(i64, Vec<Value>)>,
    /// Cells that could not be read.
    pub(super) unreadable: u64,
}

/// Reads a page; `None` if it is none of a tree.
pub(super) fn read_node(pages: &Pages, number: u32) -> Option<Node> {
    let page = pages.page(number)?;
    let start = if number == 1 { 100 } else { 0 };
    let kind = match page.get(start)? {
        0x0d => Kind::TableLeaf,
        0x05 => Kind::TableInterior,
        0x0a => Kind::IndexLeaf,
        0x02 => Kind::IndexInterior,
        _ => return None,
    };
    let is_interior = matches!(kind, Kind::TableInterior | Kind::IndexInterior);
    let cells = usize::from(half(&page, start + 3)?);
    let pointers = start + if is_interior { 12 } else { 8 };
    if pointers + 2 * cells > pages.usable {
        return None;
    }
    let mut node = Node { kind, children: Vec::new(), rows: Vec::new(), unreadable: 0 };
    for cell in 0..cells {
        let at = usize::from(half(&page, pointers + 2 * cell)?);
        if at < pointers + 2 * cells
            || at >= pages.usable
            || read_cell(pages, &page, at, &mut node).is_none()
        {
            node.unreadable += 1;
        }
    }
    if is_interior {
        node.children.extend(full(&page, start + 8));
    }
    Some(node)
}

fn read_cell(pages: &Pages, page: &[u8], mut at: usize, node: &mut Node) -> Option<()> {
    if matches!(node.kind, Kind::TableInterior | Kind::IndexInterior) {
        node.children.push(full(page, at)?);
        at += 4;
    }
    if node.kind == Kind::TableInterior {
        return Some(());
    }
    let (len, used) = varint(page.get(at..)?)?;
    at += used;
    let mut rowid = 0;
    if node.kind == Kind::TableLeaf {
        let (number, used) = varint(page.get(at..)?)?;
        (rowid, at) = (number, at + used);
    }
    let len = usize::try_from(len).ok()?;
    let payload = payload(pages, page, at, len, node.kind == Kind::TableLeaf)?;
    node.rows.push((rowid, record(&payload)?));
    Some(())
}

/// A record, put together where it goes on in other pages.
fn payload(pages: &Pages, page: &[u8], at: usize, len: usize, is_table: bool) -> Option<Vec<u8>> {
    let usable = pages.usable;
    if len > LONGEST_ROW {
        return None;
    }
    let most = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    if len <= most {
        return page.get(at..at + len).map(<[u8]>::to_vec);
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let local = least + (len - least) % (usable - 4);
    let local = if local <= most { local } else { least };
    let mut bytes = page.get(at..at + local)?.to_vec();
    let mut next = full(page, at + local)?;
    while bytes.len() < len {
        if next == 0 || next > pages.count {
            return None;
        }
        let page = pages.page(next)?;
        let part = (len - bytes.len()).min(usable - 4);
        bytes.extend_from_slice(page.get(4..4 + part)?);
        next = full(&page, 0)?;
    }
    Some(bytes)
}

fn record(bytes: &[u8]) -> Option<Vec<Value>> {
    let (header, mut at) = varint(bytes)?;
    let header = usize::try_from(header).ok().filter(|len| *len <= bytes.len())?;
    let mut body = header;
    let mut values = Vec::new();
    while at < header {
        let (kind, used) = varint(&bytes[at..header])?;
        at += used;
        let (value, len) = value(kind, bytes.get(body..)?)?;
        body += len;
        values.push(value);
    }
    (body == bytes.len()).then_some(values)
}

fn value(kind: i64, bytes: &[u8]) -> Option<(Value, usize)> {
    let integer = |len: usize| {
        let bytes = bytes.get(..len)?;
        let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        let number = bytes.iter().fold(sign, |number: i64, byte| (number << 8) | i64::from(*byte));
        Some((Value::Integer(number), len))
    };
    match kind {
        0 => Some((Value::Null, 0)),
        1..=4 => integer(usize::try_from(kind).ok()?),
        5 => integer(6),
        6 => integer(8),
        7 => match integer(8)? {
            (Value::Integer(bits), len) => {
                Some((Value::Real(f64::from_bits(bits.cast_unsigned())), len))
            }
            _ => None,
        },
        8 | 9 => Some((Value::Integer(kind - 8), 0)),
        12.. => {
            let len = usize::try_from((kind - 12) / 2).ok()?;
            let bytes = bytes.get(..len)?.to_vec();
            Some(if kind % 2 == 0 {
                (Value::Blob(bytes), len)
            } else {
                (Value::Text(String::from_utf8(bytes).ok()?), len)
            })
        }
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut number: u64 = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((((number << 8) | u64::from(*byte)).cast_signed(), 9));
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number.cast_signed(), at + 1));
        }
    }
    None
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn full(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
