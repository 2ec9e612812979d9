//! Which part of a recording an extract holds.

use super::question::Question;
use super::recording::{QueryError, Recording};
use super::selection::Selection;
use crate::model::{Nanos, Value};
use crate::store::{Excerpt, NewRecording, Taken};

impl Recording {
    /// Makes a recording of a span of this one, of those sockets that [`Question::Connections`] shows
    /// with the same selection; `words` say by what they were chosen. `None` if nothing was recorded
    /// then.
    ///
    /// # Errors
    /// When one cannot be read or the other not written; then there is no new recording.
    pub fn extract(
        &self,
        selection: &Selection,
        words: Option<&str>,
        taken_at_ns: Nanos,
        new: NewRecording,
    ) -> Result<Option<Taken>, QueryError> {
        let Some((first_snapshot, last_snapshot)) = self.looks_for(selection)? else {
            return Ok(None);
        };
        let chosen = self.chosen(selection)?;
        let excerpt = Excerpt {
            first_snapshot,
            last_snapshot,
            sockets: chosen.as_deref(),
            selection: words,
            taken_at_ns,
        };
        Ok(Some(new.extract(self.reader(), &excerpt)?))
    }

    /// The first and last snapshot that any moment of the span is answered from.
    fn looks_for(&self, selection: &Selection) -> Result<Option<(i64, i64)>, QueryError> {
        let Some(span) = self.span()? else { return Ok(None) };
        let from_ns = selection.from_ns.unwrap_or(span.from_ns);
        let to_ns = selection.to_ns.unwrap_or(span.to_ns);
        if from_ns > span.to_ns || to_ns < span.from_ns {
            return Ok(None);
        }
        let (first, last) = self.snapshots_in(from_ns, to_ns)?;
        let within = (first <= last).then_some((first, last));
        let before = self.snapshot_at(from_ns.saturating_sub(1))?;
        let at_end = self.snapshot_at(to_ns)?;
        let first = before.into_iter().chain(within.map(|(first, _)| first)).min();
        let last = at_end.into_iter().chain(within.map(|(_, last)| last)).max();
        Ok(first.zip(last))
    }

    /// `None`: every socket.
    fn chosen(&self, selection: &Selection) -> Result<Option<Vec<i64>>, QueryError> {
        if selection.is_open() && selection.limit.is_none() {
            return Ok(None);
        }
        let wanted = Selection { columns: vec!["socket_id".to_owned()], ..selection.clone() };
        let mut sockets = Vec::new();
        self.answer(Question::Connections, &wanted, |row| {
            if let [Value::Integer(id)] = row {
                sockets.push(*id);
            }
            Ok(())
        })?;
        Ok(Some(sockets))
    }
}
