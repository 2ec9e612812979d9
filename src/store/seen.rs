//! What rows tell of each socket together. SQLite would sort them by socket first, which takes longer than
//! to read them.

use hashbrown::HashMap;
use rusqlite::{Row, Statement};

/// Figures of each socket: of a count the sum, of all else the greatest.
#[derive(Default)]
pub(super) struct Seen {
    names: Vec<String>,
    /// Where the figures of a socket begin.
    places: HashMap<i64, usize>,
    figures: Vec<i64>,
}

/// Less than any value.
const UNKNOWN: i64 = i64::MIN;

fn known(value: i64) -> Option<i64> {
    (value != UNKNOWN).then_some(value)
}

impl Seen {
    /// Adds up the rows of a query, of which the first column is the socket.
    pub(super) fn read(statement: &mut Statement<'_>) -> rusqlite::Result<Self> {
        let names = statement.column_names().skip(1).map(str::to_owned).collect();
        let mut seen = Self { names, ..Self::default() };
        let are_counts: Vec<_> = seen.names.iter().map(|n| n == "zero_window_samples").collect();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            seen.add(row, &are_counts)?;
        }
        Ok(seen)
    }

    fn add(&mut self, row: &Row<'_>, are_counts: &[bool]) -> rusqlite::Result<()> {
        let end = self.figures.len();
        let place = *self.places.entry(row.get(0)?).or_insert(end);
        if place == end {
            self.figures.resize(end + are_counts.len(), UNKNOWN);
        }
        for (index, (figure, is_count)) in
            self.figures[place..].iter_mut().zip(are_counts).enumerate()
        {
            if let Some(value) = row.get::<_, Option<i64>>(index + 1)? {
                *figure = match known(*figure) {
                    Some(sum) if *is_count => sum.saturating_add(value),
                    _ => value.max(*figure),
                };
            }
        }
        Ok(())
    }

    /// A figure by the name of its column; `None` where it is not known.
    pub(super) fn of(&self, socket: i64, name: &str) -> Option<i64> {
        let index = self.names.iter().position(|known| known == name)?;
        known(self.figures[self.places.get(&socket)? + index])
    }
}
