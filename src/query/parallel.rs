//! One answer read on several threads.
//!
//! Whoever asks gets the rows as ever: in their order, one by one, on the thread that asked. What they are
//! in order of is dealt out in blocks. Each thread asks the same question for its own blocks, of a reader
//! of its own, and copies the rows of a block into batches; these are handed over in the order of the
//! blocks. Who is ahead waits: no more than some thousand rows a thread are held.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::recording::QueryError;
use crate::model::Value;
use crate::store::{Parameter, Reader, StoreError};

/// Rows of a batch at most.
const ROWS: usize = 64;
/// Batches of a thread that wait to be taken.
const WAITING: usize = 64;

/// What the rows of an answer are in order of, where each is worked out without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// A column of whole numbers.
    pub(super) column: &'static str,
    /// Numbers that differ in so many of their last bits only are a block.
    pub(super) bits: u32,
}

/// A question that is asked for a share of its rows.
pub(super) struct Asked<'q> {
    /// It gives the key behind all columns, and asks for the blocks of `:share` of `:shares`.
    pub(super) sql: &'q str,
    pub(super) parameters: &'q [Parameter<'q>],
    pub(super) key: Key,
}

impl Key {
    /// Whether a row is of a block of this share. No number, not even one below 0, is of none.
    pub(super) fn condition(self) -> String {
        let Self { column, bits } = self;
        format!("abs(({column} >> {bits}) % :shares) = :share")
    }
}

/// As many threads as there are processors to be had, and not more than a few: who asks may do so on a
/// machine that has other things to do.
pub(super) fn usual_threads() -> usize {
    const MOST: usize = 4;
    thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST)
}

/// Hands over all rows in the order of their key, each without it, of readers that see the same.
pub(super) fn run(
    asked: &Asked<'_>,
    readers: Vec<Reader>,
    mut each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    thread::scope(|scope| {
        let shares = readers.len();
        let mut threads = Vec::with_capacity(shares);
        for (share, reader) in readers.into_iter().enumerate() {
            let (sender, batches) = bounded(WAITING);
            let (empties, room) = bounded(WAITING);
            let stop = Arc::default();
            let reader = reader.stopped_by(&stop)?;
            thread::Builder::new()
                .name("sockrec-read".to_owned())
                .spawn_scoped(scope, move || read(asked, (share, shares), &reader, &sender, &room))
                .map_err(QueryError::Thread)?;
            threads.push(Share { batches, empties, next: None, stop });
        }
        loop {
            for share in &mut threads {
                // Nothing comes any more of who has told all.
                share.next = share.next.take().or_else(|| share.batches.recv().ok());
            }
            let waiting = threads.iter_mut().filter(|share| share.next.is_some());
            let first = waiting.min_by_key(|share| share.next.as_ref().map(|batch| batch.block));
            let Some(share) = first else { return Ok(()) };
            let Some(mut batch) = share.next.take() else { return Ok(()) };
            batch.hand_over(&mut each)?;
            // Who has read all needs none any more.
            let _ = share.empties.try_send(batch);
        }
    })
}

/// What one thread reads.
struct Share {
    batches: Receiver<Batch>,
    /// Batches go back empty, to be used again.
    empties: Sender<Batch>,
    next: Option<Batch>,
    stop: Arc<AtomicBool>,
}

impl Drop for Share {
    /// Nobody takes what it still finds, and it may be long in finding anything.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads the blocks of one share and sends them.
fn read(
    asked: &Asked<'_>,
    (share, shares): (usize, usize),
    reader: &Reader,
    sender: &Sender<Batch>,
    room: &Receiver<Batch>,
) {
    let number = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let own = [(":share", number(share)), (":shares", number(shares))];
    let parameters = [asked.parameters, &own].concat();
    let mut batch = Batch::default();
    let result = reader.run(asked.sql, &parameters, |row| {
        let [values @ .., Value::Integer(key)] = row else { return Ok(()) };
        let block = key >> asked.key.bits;
        if batch.is_full() || (block != batch.block && !batch.cells.is_empty()) {
            let next = room.try_recv().unwrap_or_default();
            let full = std::mem::replace(&mut batch, next);
            sender.send(full).map_err(|_| Ended::Untaken)?;
        }
        batch.block = block;
        batch.add(values);
        Ok(())
    });
    match result {
        Err(Ended::Untaken) => return,
        Err(Ended::Failed(error)) => batch.error = Some(error),
        Ok(()) => {}
    }
    // That nobody takes it any more is told to those who would have.
    let _ = sender.send(batch);
}

/// Why a thread has not read to the end.
enum Ended {
    /// Nobody wants more.
    Untaken,
    Failed(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Rows of a block, one after the other.
#[derive(Default)]
struct Batch {
    block: i64,
    /// Values of a row.
    width: usize,
    cells: Vec<Cell>,
    /// Texts and bytes of the cells, one after the other.
    text: String,
    bytes: Vec<u8>,
    /// What came instead of more rows.
    error: Option<StoreError>,
}

#[derive(Clone, Copy)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    /// Of so many bytes.
    Text(usize),
    Bytes(usize),
}

impl Batch {
    fn is_full(&self) -> bool {
        self.cells.len() >= ROWS * self.width.max(1)
    }

    fn add(&mut self, values: &[Value<'_>]) {
        self.width = values.len();
        let (text, bytes) = (&mut self.text, &mut self.bytes);
        self.cells.extend(values.iter().map(|value| match *value {
            Value::Null => Cell::Null,
            Value::Integer(v) => Cell::Integer(v),
            Value::Real(v) => Cell::Real(v),
            Value::Text(v) => {
                text.push_str(v);
                Cell::Text(v.len())
            }
            Value::Bytes(v) => {
                bytes.extend_from_slice(v);
                Cell::Bytes(v.len())
            }
        }));
    }

    /// Leaves it empty, with its room.
    fn hand_over(
        &mut self,
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (mut text, mut bytes) = (self.text.as_str(), self.bytes.as_slice());
        let mut row = Vec::with_capacity(self.width);
        for cells in self.cells.chunks(self.width.max(1)) {
            row.clear();
            row.extend(cells.iter().map(|cell| match *cell {
                Cell::Null => Value::Null,
                Cell::Integer(v) => Value::Integer(v),
                Cell::Real(v) => Value::Real(v),
                Cell::Text(len) => {
                    let (value, rest) = text.split_at(len);
                    text = rest;
                    Value::Text(value)
                }
                Cell::Bytes(len) => {
                    let (value, rest) = bytes.split_at(len);
                    bytes = rest;
                    Value::Bytes(value)
                }
            }));
            each(&row)?;
        }
        self.cells.clear();
        self.text.clear();
        self.bytes.clear();
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_hands_over_what_it_was_given() {
        let rows: [[Value<'_>; 4]; 3] = [
            [Value::Null, Value::Text("é"), Value::Bytes(&[0xff]), Value::Integer(i64::MIN)],
            [Value::Text(""), Value::Real(-0.5), Value::Bytes(&[]), Value::Text("a\0b")],
            [Value::Bytes(b"xyz"), Value::Text("ü"), Value::Null, Value::Bytes(&[0, 1])],
        ];
        let mut batch = Batch::default();
        rows.iter().for_each(|row| batch.add(row));
        batch.error = Some(StoreError::NoQuery);
        let mut taken = 0;
        let result = batch.hand_over(|row| {
            assert_eq!(row, rows[taken]);
            taken += 1;
            Ok(())
        });
        assert!(matches!(result, Err(QueryError::Store(StoreError::NoQuery))));
        assert_eq!(taken, rows.len(), "what came before an error is told");
        batch.add(&[Value::Text("next")]);
        let next = |row: &[Value<'_>]| {
            assert_eq!(row, [Value::Text("next")]);
            Ok(())
        };
        batch.hand_over(next).unwrap();
    }
}
