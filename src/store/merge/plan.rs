//! Which snapshots of which file become which numbers: the order of a recording that is made of several.
//!
//! Parts of one recording are known by its UUID and by the numbers that its captures and snapshots had in
//! it, whatever file they came by: where these touch or overlap they are one run again, and each snapshot
//! is taken once. Runs keep their order and distances of numbers; only where they begin is chosen anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::store::numbers::LAST_NUMBER;

/// A capture as one file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which of the files.
    pub(super) file: usize,
    /// Its number there.
    pub(super) capture: i64,
    /// Its number there of the capture before it on the same machine.
    pub(super) previous: Option<i64>,
    /// The recording that it was recorded into.
    pub(super) recording: String,
    /// By what sockets were chosen of it.
    pub(super) selection: Option<String>,
    pub(super) is_cut_before: bool,
    pub(super) is_cut_after: bool,
    /// How the numbers of the file come of those of the recording.
    pub(super) offsets: Offsets,
    /// First and last snapshot in the file, `None` if there is none.
    pub(super) snapshots: Option<(i64, i64)>,
    /// The least and greatest number of its groups, and of the sockets that it saw first.
    pub(super) groups: Option<(i64, i64)>,
    pub(super) sockets: Option<(i64, i64)>,
    /// The UUID of the boot, and by what the machine is known.
    pub(super) boot: String,
    pub(super) machine: Option<String>,
    /// From when to when, UTC.
    pub(super) span_ns: (i64, i64),
    /// The same in boot time, where it is known.
    pub(super) boottime_ns: Option<(i64, i64)>,
}

/// What is added to the numbers of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) capture: i64,
    pub(super) group: i64,
    pub(super) snapshot: i64,
    pub(super) socket: i64,
}

/// What becomes of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) piece: Piece,
    /// How the new numbers come of those of the recording.
    pub(super) offsets: Offsets,
    /// Snapshots of the file up to this one are taken from pieces before it.
    pub(super) taken_to: i64,
    /// What is cut off of the run that it is of.
    pub(super) is_cut_before: bool,
    pub(super) is_cut_after: bool,
    /// The new number of the capture before it on the same machine.
    pub(super) previous: Option<i64>,
    /// What all that touches in a recording has in common.
    pub(super) run: i64,
    /// What captures that follow each other on one machine have in common.
    pub(super) line: i64,
}

/// Why pieces cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Two files hold the same snapshots with other sockets.
    OtherSockets { files: (usize, usize) },
    /// A file has numbers that no recorder comes to.
    Misnumbered { file: usize },
}

impl Piece {
    fn original(&self) -> Option<(i64, i64)> {
        let shift = self.offsets.snapshot;
        self.snapshots.map(|(first, last)| (first - shift, last - shift))
    }

    /// Whether its numbers may be added and subtracted.
    fn is_countable(&self) -> bool {
        let Offsets { capture, group, snapshot, socket } = self.offsets;
        let ranges = [self.snapshots, self.groups, self.sockets];
        [capture, group, snapshot, socket, self.capture]
            .into_iter()
            .chain(self.previous)
            .chain(ranges.into_iter().flatten().flat_map(|(first, last)| [first, last]))
            .all(|number| (-LAST_NUMBER..=LAST_NUMBER).contains(&number))
    }

    fn original_capture(&self) -> i64 {
        self.capture - self.offsets.capture
    }

    /// Whether it began after the other had ended, on the same machine.
    fn follows(&self, other: &Self) -> bool {
        if self.boot == other.boot {
            return match (self.boottime_ns, other.boottime_ns) {
                (Some(own), Some(others)) => own.0 >= others.1,
                _ => self.span_ns.0 >= other.span_ns.1,
            };
        }
        let is_known = self.machine.is_some() && self.machine == other.machine;
        is_known && self.span_ns.0 >= other.span_ns.1
    }
}

/// Gives each piece its numbers, those of a run after each other.
pub(super) fn place(mut pieces: Vec<Piece>) -> Result<Vec<Placed>, Refused> {
    if let Some(piece) = pieces.iter().find(|piece| !piece.is_countable()) {
        return Err(Refused::Misnumbered { file: piece.file });
    }
    // Of equal pieces the one that is cut less.
    pieces.sort_by(|a, b| {
        let of = |p: &Piece| (p.recording.clone(), p.original(), p.original_capture());
        of(a).cmp(&of(b)).then(a.is_cut_after.cmp(&b.is_cut_after))
    });
    let mut runs: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(run) if is_same_run(run, &piece)? => run.push(piece),
            _ => runs.push(vec![piece]),
        }
    }
    runs.sort_by_key(|run| {
        let first = run.iter().filter(|piece| piece.snapshots.is_some()).map(|p| p.span_ns.0).min();
        let recording = run.first().map(|piece| piece.recording.clone());
        (first.is_none(), first, recording, run.first().and_then(Piece::original))
    });
    let mut placed = Vec::new();
    let mut next = Offsets { capture: 1, group: 1, snapshot: 1, socket: 1 };
    for run in runs {
        let file = run.first().map_or(0, |piece| piece.file);
        place_run(run, &mut next, &mut placed);
        if [next.capture, next.group, next.snapshot, next.socket].iter().any(|&n| n > LAST_NUMBER) {
            return Err(Refused::Misnumbered { file });
        }
    }
    link(&mut placed);
    Ok(placed)
}

/// Whether a piece goes on where a run of sorted pieces ends, or within it.
fn is_same_run(run: &[Piece], piece: &Piece) -> Result<bool, Refused> {
    let Some(first) = run.first().filter(|first| first.recording == piece.recording) else {
        return Ok(false);
    };
    let (Some((from, _)), Some(last)) =
        (piece.original(), run.iter().filter_map(Piece::original).map(|(_, last)| last).max())
    else {
        return Ok(piece.original().is_none() && first.original().is_none());
    };
    if first.selection == piece.selection {
        return Ok(from <= last + 1);
    }
    let is_overlapping = |other: &&Piece| other.original().is_some_and(|(_, last)| from <= last);
    match run.iter().find(is_overlapping) {
        Some(other) => Err(Refused::OtherSockets { files: (other.file, piece.file) }),
        None => Ok(false),
    }
}

fn place_run(run: Vec<Piece>, next: &mut Offsets, placed: &mut Vec<Placed>) {
    // The least of the recording's numbers becomes the next free one.
    let bounds = |of: &dyn Fn(&Piece) -> Option<(i64, i64)>| {
        let all: Vec<_> = run.iter().filter_map(of).collect();
        let least = all.iter().map(|range| range.0).min();
        least.zip(all.iter().map(|range| range.1).max())
    };
    let claim = |next: &mut i64, range: Option<(i64, i64)>| match range {
        Some((least, greatest)) => {
            let offset = *next - least;
            *next = greatest + offset + 1;
            offset
        }
        None => 0,
    };
    let shifted = |range: Option<(i64, i64)>, by: i64| range.map(|(a, b)| (a - by, b - by));
    let captures = bounds(&|p| Some((p.original_capture(), p.original_capture())));
    let groups = bounds(&|p| shifted(p.groups, p.offsets.group));
    let sockets = bounds(&|p| shifted(p.sockets, p.offsets.socket));
    let snapshots = bounds(&Piece::original);
    let offsets = Offsets {
        capture: claim(&mut next.capture, captures),
        group: claim(&mut next.group, groups),
        snapshot: claim(&mut next.snapshot, snapshots),
        socket: claim(&mut next.socket, sockets),
    };
    let is_cut_before = run.first().is_some_and(|piece| piece.is_cut_before);
    let ends = |piece: &Piece| piece.original().map(|(_, last)| last);
    let last = run.iter().filter_map(ends).max();
    let is_cut_after =
        run.iter().filter(|piece| ends(piece) == last).all(|piece| piece.is_cut_after);
    let first_capture = captures.map(|(first, _)| first);
    let run_number = next.capture;
    let mut taken_to = i64::MIN;
    for piece in run {
        let in_file = piece.offsets.snapshot;
        placed.push(Placed {
            offsets,
            taken_to: taken_to.saturating_add(in_file),
            is_cut_before: is_cut_before && Some(piece.original_capture()) == first_capture,
            is_cut_after,
            previous: piece.previous.map(|n| n - piece.offsets.capture + offsets.capture),
            run: run_number,
            line: 0,
            piece,
        });
        if let Some((_, last)) = placed.last().and_then(|placed| placed.piece.original()) {
            taken_to = taken_to.max(last);
        }
    }
}

/// Links each capture to the one before it on its machine, also in another run.
fn link(placed: &mut [Placed]) {
    let number = |p: &Placed| p.piece.original_capture() + p.offsets.capture;
    let mut wholes: BTreeMap<i64, Piece> = BTreeMap::new();
    for part in placed.iter().filter(|part| part.piece.snapshots.is_some()) {
        let whole = wholes.entry(number(part)).or_insert_with(|| part.piece.clone());
        let join = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        whole.span_ns = join(whole.span_ns, part.piece.span_ns);
        whole.boottime_ns = whole.boottime_ns.zip(part.piece.boottime_ns).map(|(a, b)| join(a, b));
    }
    // A part that begins with a capture has no other before it; a longer one of the run may.
    let mut previous: HashMap<i64, i64> = HashMap::new();
    for part in placed.iter() {
        previous
            .extend(part.previous.filter(|n| wholes.contains_key(n)).map(|n| (number(part), n)));
    }
    let mut followed: HashSet<i64> = previous.values().copied().collect();
    for (&head, whole) in &wholes {
        if previous.contains_key(&head) {
            continue;
        }
        let mut before = wholes.range(..head).rev();
        let found = before.find(|(n, other)| !followed.contains(n) && whole.follows(other));
        if let Some((&found, _)) = found {
            previous.insert(head, found);
            followed.insert(found);
        }
    }
    let mut lines: HashMap<i64, i64> = HashMap::new();
    for &n in wholes.keys() {
        let line = previous.get(&n).and_then(|before| lines.get(before)).copied().unwrap_or(n);
        lines.insert(n, line);
    }
    for part in placed {
        let n = number(part);
        part.previous = previous.get(&n).copied();
        part.line = lines.get(&n).copied().unwrap_or(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Snapshots `ids` of capture 1 of a recording, a second each.
    fn piece(file: usize, recording: &str, ids: (i64, i64)) -> Piece {
        let span_ns = (ids.0 * 10, ids.1 * 10 + 1);
        Piece {
            file,
            capture: 1,
            previous: None,
            recording: recording.to_owned(),
            selection: None,
            is_cut_before: ids.0 > 1,
            is_cut_after: true,
            offsets: Offsets::default(),
            snapshots: Some(ids),
            groups: Some((1, 1)),
            sockets: Some((1, 5)),
            boot: "boot".to_owned(),
            machine: Some("machine".to_owned()),
            span_ns,
            boottime_ns: Some(span_ns),
        }
    }

    fn taken(placed: &[Placed]) -> Vec<(usize, i64, Option<i64>)> {
        placed.iter().map(|p| (p.piece.file, p.taken_to.max(0), p.previous)).collect()
    }

    #[test]
    fn parts_that_overlap_or_touch_are_one_capture_again() {
        let parts = vec![piece(1, "r", (5, 9)), piece(0, "r", (1, 6)), piece(2, "r", (10, 12))];
        let placed = place(parts).unwrap();
        assert_eq!(taken(&placed), [(0, 0, None), (1, 6, None), (2, 9, None)]);
        assert!(placed.iter().all(|p| p.offsets == placed[0].offsets && !p.is_cut_before));
    }

    #[test]
    fn parts_with_a_hole_between_follow_each_other() {
        let placed = place(vec![piece(0, "r", (8, 9)), piece(1, "r", (1, 6))]).unwrap();
        assert_eq!(taken(&placed), [(1, 0, None), (0, 0, Some(1))]);
        assert!(placed[1].is_cut_before);
    }

    #[test]
    fn recorders_that_ran_at_once_do_not_follow_each_other() {
        let placed = place(vec![piece(0, "a", (1, 9)), piece(1, "b", (4, 6))]).unwrap();
        assert_eq!(taken(&placed), [(0, 0, None), (1, 0, None)]);
        assert_ne!(placed[0].line, placed[1].line);
    }

    #[test]
    fn numbers_that_cannot_be_added_are_refused() {
        let refused = Err(Refused::Misnumbered { file: 1 });
        let with = |change: &dyn Fn(&mut Piece)| {
            let mut other = piece(1, "other", (1, 9));
            change(&mut other);
            place(vec![piece(0, "r", (1, 6)), other])
        };
        for number in [i64::MIN, -LAST_NUMBER - 1, LAST_NUMBER + 1, i64::MAX] {
            assert_eq!(with(&|p| p.capture = number), refused);
            assert_eq!(with(&|p| p.previous = Some(number)), refused);
            assert_eq!(with(&|p| p.snapshots = Some((1, number))), refused);
            assert_eq!(with(&|p| p.groups = Some((1, number))), refused);
            assert_eq!(with(&|p| p.sockets = Some((number, 1))), refused);
            assert_eq!(with(&|p| p.offsets.socket = number), refused);
        }
        // Those of a merged recording are to be numbers of a recording again.
        assert_eq!(with(&|p| p.sockets = Some((1, LAST_NUMBER))), refused);
        assert!(with(&|p| p.sockets = Some((LAST_NUMBER, LAST_NUMBER))).is_ok());
    }

    #[test]
    fn the_same_snapshots_with_other_sockets_are_refused() {
        let other = Piece { selection: Some("tcp".to_owned()), ..piece(1, "r", (3, 9)) };
        let found = place(vec![piece(0, "r", (1, 6)), other.clone()]);
        assert_eq!(found, Err(Refused::OtherSockets { files: (0, 1) }));
        assert!(place(vec![piece(0, "r", (1, 2)), other]).is_ok());
    }
}
