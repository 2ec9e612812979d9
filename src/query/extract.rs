//! Which part of a recording an extract holds.

use super::question::Question;
use super::recording::{QueryError, Recording};
use super::selection::Selection;
use crate::model::{Nanos, Value};
use crate::store::{Before, Excerpt, NewRecording, StoreError, Stretch, Taken};

impl Recording {
    /// Makes a recording of a span of this one, of those sockets that [`Question::Connections`] shows
    /// with the same selection, and what is left of others in the span; `words` say by what they were
    /// chosen, `before` what becomes of the time before the span that its first state rests on. `None` if
    /// nothing was recorded then.
    ///
    /// # Errors
    /// When one cannot be read or the other not written; then there is no new recording.
    pub fn extract(
        &self,
        selection: &Selection,
        words: Option<&str>,
        before: Before,
        taken_at_ns: Nanos,
        key: Option<&[u8]>,
        new: NewRecording,
    ) -> Result<Option<Taken>, QueryError> {
        let stretches = self.stretches_for(selection)?;
        if stretches.is_empty() {
            return Ok(None);
        }
        let chosen = self.chosen(selection)?;
        let excerpt = Excerpt {
            stretches: &stretches,
            sockets: chosen.as_deref(),
            before,
            selection: words,
            taken_at_ns,
            key,
        };
        Ok(Some(new.extract(self.reader(), &excerpt)?))
    }

    /// Of each machine that was recorded in the span, the first and last snapshot that any moment of it
    /// is answered from.
    fn stretches_for(&self, selection: &Selection) -> Result<Vec<Stretch>, QueryError> {
        let mut found = Vec::new();
        for line in self.lines(selection.host.as_deref())? {
            let (from_ns, to_ns) = line.span_ns;
            let from_ns = selection.from_ns.unwrap_or(from_ns);
            let to_ns = selection.to_ns.unwrap_or(to_ns);
            if from_ns > line.span_ns.1 || to_ns < line.span_ns.0 {
                continue;
            }
            let mut looks = Vec::new();
            for moment in [from_ns.saturating_sub(1), to_ns] {
                looks.extend(self.latest_of(&line, moment)?.map(|look| look.snapshot_id));
            }
            for &(first, last) in &line.blocks {
                looks.extend(self.ends_within((first, last), (from_ns, to_ns))?);
            }
            if let (Some(&first_snapshot), Some(&last_snapshot)) =
                (looks.iter().min(), looks.iter().max())
            {
                found.push(Stretch { captures: line.captures, first_snapshot, last_snapshot });
            }
        }
        Ok(found)
    }

    /// The first and last of these snapshots that ended in this span of UTC.
    fn ends_within(&self, ids: (i64, i64), span_ns: (i64, i64)) -> Result<Vec<i64>, StoreError> {
        let mut found = Vec::new();
        self.run(
            "SELECT min(snapshot_id), max(snapshot_id) FROM snapshots
             WHERE ended_at_ns BETWEEN :from_ns AND :to_ns AND snapshot_id BETWEEN :first AND :last",
            &[
                (":from_ns", Value::Integer(span_ns.0)),
                (":to_ns", Value::Integer(span_ns.1)),
                (":first", Value::Integer(ids.0)),
                (":last", Value::Integer(ids.1)),
            ],
            |row| {
                found.extend(row.iter().filter_map(|value| match value {
                    Value::Integer(id) => Some(*id),
                    _ => None,
                }));
            },
        )?;
        Ok(found)
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
