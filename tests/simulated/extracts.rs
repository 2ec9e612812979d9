//! Extracts of random recordings: what they say of their span is what the whole recording says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use sockrec::query::{QueryError, Question, Recording, Selection};
use sockrec::store::{Before, NewRecording};

use crate::harness::{assert_recording_is_whole, violations};
use crate::lifetimes::{Script, TICKS, config, recorded, recorded_for, script};
use crate::world::{Jump, SECOND, World, text};

/// So late a tick begins with a keyframe.
pub const HOUR_NS: i64 = 3_601 * SECOND;

pub type Row = HashMap<&'static str, String>;

pub fn rows(path: &Path, question: Question, span: (i64, i64)) -> Vec<Row> {
    let selection =
        Selection { from_ns: Some(span.0), to_ns: Some(span.1), ..Selection::default() };
    rows_of(path, question, &selection).unwrap()
}

pub fn rows_of(
    path: &Path,
    question: Question,
    selection: &Selection,
) -> Result<Vec<Row>, QueryError> {
    let recording = Recording::open(path)?;
    let columns = recording.columns(question, selection)?;
    let mut rows = Vec::new();
    recording.answer(question, selection, |row| {
        rows.push(columns.iter().map(|column| column.name).zip(row.iter().map(text)).collect());
        Ok(())
    })?;
    Ok(rows)
}

/// A span of a recording as a new one, `None` if nothing was recorded then.
pub fn extract_to(whole: &Path, span: (i64, i64), before: Before, to: &Path) -> Option<PathBuf> {
    let selection =
        Selection { from_ns: Some(span.0), to_ns: Some(span.1), ..Selection::default() };
    let words = (before == Before::WhoIsThere).then_some("what was there");
    let new = NewRecording::create(to).unwrap();
    let whole = Recording::open(whole).unwrap();
    let taken = whole.extract(&selection, words, before, 1, None, new).unwrap();
    taken.map(|_| to.to_owned())
}

/// Two moments between looks, or before the first or after the last.
pub fn moments_between(world: &World, places: (f64, f64)) -> (i64, i64) {
    let all = rows(&world.path(), Question::Snapshots, (i64::MIN, i64::MAX));
    let moment = |place: f64| {
        let place = place * (all.len() + 1) as f64;
        let ended = |i: usize| integer(&all[i], "ended_at").unwrap();
        match place as usize {
            0 => ended(0) - SECOND / 2,
            n if n >= all.len() => ended(all.len() - 1) + SECOND / 2,
            n => ended(n - 1) + ((ended(n) - ended(n - 1)) as f64 * place.fract()) as i64,
        }
    };
    (moment(places.0), moment(places.1))
}

pub fn integer(row: &Row, column: &str) -> Option<i64> {
    row[column].parse().ok()
}

/// What of a connection that lies within the extract has to be the same.
pub const FACTS: &[&str] = &[
    "cookie",
    "generation",
    "protocol",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "direction",
    "direction_evidence",
    "state",
    "first_seen_at",
    "last_seen_at",
    "opened_after",
    "opened_before",
    "opened_evidence",
    "closed_after",
    "closed_before",
    "closed_evidence",
    "destroyed_at",
    "ending",
    "ending_evidence",
    "duration_min_ns",
    "duration_max_ns",
    "bytes_sent",
    "bytes_received",
    "segs_out",
    "total_retrans",
    "samples",
];

/// Bounds of the extract may be wider than those of the whole recording, never beside them.
fn compare_connections(whole: &Path, part: &Path, span: (i64, i64), kept: (i64, i64)) {
    let all = rows(part, Question::Connections, (i64::MIN, i64::MAX));
    let (whole, part) =
        (rows(whole, Question::Connections, span), rows(part, Question::Connections, span));
    let of = |rows: &[Row], row: &Row| {
        rows.iter().find(|other| other["socket_id"] == row["socket_id"]).cloned()
    };
    assert!(part.iter().all(|p| of(&whole, p).is_some()), "{part:?}");
    for w in whole {
        let Some(p) = &of(&part, &w) else {
            let told = ["first_seen_at", "destroyed_at"].map(|column| integer(&w, column));
            let first_told = told.into_iter().flatten().min();
            let Some(p) = of(&all, &w) else {
                // The first that tells of it comes after the extract, or its socket was freed before and
                // no dump shows that anything is left of it.
                let is_before = integer(&w, "destroyed_at").is_some_and(|at| at < kept.0);
                let is_not_seen = is_before && w["closed_evidence"] != "time_wait";
                let is_after = first_told.is_none_or(|at| at >= kept.1);
                assert!(is_after || is_not_seen, "{kept:?} {w:?}");
                continue;
            };
            // No two dumps of the extract tell that it was gone, nor that it lived on into the span.
            let is_later = integer(&w, "closed_before").is_none_or(|at| at >= kept.1);
            let is_open = p["closed_before"] == "-" && integer(&p, "last_seen_at") < Some(span.0);
            assert!(is_later && is_open, "{kept:?} {w:?} {p:?}");
            continue;
        };
        let w = &w;
        let told = format!("\nwhole {w:?}\npart {p:?}");
        let opened_after = integer(p, "opened_after");
        assert!(opened_after.is_none() || integer(w, "opened_after") >= opened_after, "{told}");
        // Of what went on half-closed the whole recording tells when that began.
        let over_by = integer(w, "closed_before").unwrap_or(i64::MAX);
        let closed_after = integer(p, "closed_after");
        assert!(closed_after.is_none_or(|p| p <= over_by), "{told}");
        for upper in ["opened_before", "closed_before"] {
            let is_wider = integer(p, upper).is_none_or(|p| integer(w, upper).unwrap() <= p);
            assert!(is_wider, "{upper}{told}");
        }
        let begins = integer(w, "opened_after").is_some_and(|at| at > kept.0);
        let ends = |column| integer(w, column).is_some_and(|at| at < kept.1);
        let is_freed = integer(w, "destroyed_at").is_none() || ends("destroyed_at");
        // What came later may have told how it ended, and that it did.
        let is_told_later = p["ending_evidence"] == "-" && w["ending_evidence"] != "-";
        let of_ends = ["ending", "ending_evidence", "closed_before", "closed_evidence"];
        let rests_on_ending = |fact: &str| of_ends.contains(&fact) || fact == "duration_max_ns";
        if begins && ends("closed_before") && is_freed {
            let has_rest = [&w["time_wait_min_ns"], &w["time_wait_max_ns"]] != ["-", "-"];
            let count = FACTS.len() - usize::from(has_rest);
            for fact in FACTS[..count].iter().filter(|f| !(is_told_later && rests_on_ending(f))) {
                assert_eq!(w[fact], p[fact], "{fact}{told}");
            }
        }
        if p["closed_evidence"] == "extract_end" {
            assert!(integer(w, "closed_before").is_none_or(|at| at > span.1), "{told}");
        }
        if p["opened_evidence"] == "extract_start" {
            assert!(integer(w, "opened_before").is_none_or(|at| at <= kept.0), "{told}");
        }
    }
}

fn compare(world: &World, span: (i64, i64), before: Before) {
    let whole = world.path();
    let snapshots = rows(&whole, Question::Snapshots, (i64::MIN, i64::MAX));
    let part = world.directory.path().join("part.db");
    let Some(part) = extract_to(&whole, span, before, &part) else {
        let is_outside = |row: &Row| {
            integer(row, "ended_at") < Some(span.0) || integer(row, "started_at") > Some(span.1)
        };
        return assert!(snapshots.iter().all(is_outside));
    };
    // What the whole recording does not fulfil either is no fault of the extract.
    if violations(&whole).is_empty() {
        assert_recording_is_whole(&part);
    }
    let kept = rows(&part, Question::Snapshots, (i64::MIN, i64::MAX));
    let moments = [span.0, span.1, i64::midpoint(span.0, span.1)];
    let looks = snapshots.iter().filter_map(|row| integer(row, "ended_at"));
    let of_snapshots: Vec<_> = looks.filter(|at| (span.0..=span.1).contains(at)).collect();
    for at in moments.into_iter().chain(of_snapshots) {
        let look = |path: &Path| Recording::open(path).unwrap().snapshot_at(at).unwrap();
        assert_eq!(look(&whole), look(&part), "at {at}");
        let Some(snapshot_id) = look(&whole) else { continue };
        let question = Question::At { snapshot_id };
        assert_eq!(rows(&whole, question, span), rows(&part, question, span), "at {at}");
    }
    for question in [Question::Samples, Question::Snapshots] {
        assert_eq!(rows(&whole, question, span), rows(&part, question, span), "{question:?}");
    }
    let first_ns = integer(&kept[0], "ended_at").unwrap();
    let last_ns = integer(kept.last().unwrap(), "started_at").unwrap();
    let gaps = |path| {
        let mut gaps = rows(path, Question::Coverage, span);
        gaps.retain(|row| {
            row["kind"] != "recorded"
                && integer(row, "from") > Some(first_ns)
                && integer(row, "to") < Some(last_ns)
        });
        gaps
    };
    assert_eq!(gaps(&whole), gaps(&part));
    compare_connections(&whole, &part, span, (first_ns, last_ns));
}

pub fn with_keyframes() -> impl Strategy<Value = Script> {
    (script(), prop::collection::hash_set(1..TICKS, 0..3)).prop_map(|(mut script, ticks)| {
        for tick in ticks {
            script.jumps.insert(tick, Jump { late_ns: HOUR_NS, ..Jump::default() });
        }
        script
    })
}

/// Held against a recorder that ended when the extract does.
fn compare_endings(script: &Script, world: &World, to: i64) {
    let part = world.directory.path().join("part.db");
    let span = (i64::MIN, to);
    let Some(part) = extract_to(&world.path(), span, Before::WhoIsThere, &part) else { return };
    let ticks = rows(&part, Question::Snapshots, (i64::MIN, i64::MAX)).len();
    let of = |path: &Path| -> HashMap<String, Row> {
        let rows = rows(path, Question::Connections, (i64::MIN, i64::MAX));
        rows.into_iter().map(|row| (row["socket_id"].clone(), row)).collect()
    };
    recorded_for(ticks, World::default(), script, |cut, _| {
        let (cut, part) = (of(&cut.path()), of(&part));
        for (socket, p) in &part {
            let c = cut.get(socket).unwrap_or_else(|| panic!("{p:?}"));
            assert_eq!(c["local_port"], p["local_port"]);
            let is_known = ["-", &c["ending_evidence"]].contains(&p["ending_evidence"].as_str());
            assert!(is_known, "\nthen {c:?}\npart {p:?}");
        }
    });
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn an_extract_tells_no_ending_that_was_not_known_by_its_end(
        script in with_keyframes(), place in 0.0..1.0_f64
    ) {
        recorded(&script, |world, _| {
            compare_endings(&script, world, moments_between(world, (place, place)).0);
        });
    }

    #[test]
    fn an_extract_answers_for_its_span_as_the_whole_does(
        script in with_keyframes(), places in (0.0..1.0_f64, 0.0..1.0_f64), is_wide in any::<bool>(),
        is_mergeable in any::<bool>()
    ) {
        let before = if is_mergeable { Before::Everyone } else { Before::WhoIsThere };
        recorded(&script, |world, _| {
            let (a, b) = moments_between(world, places);
            let narrow = (a.min(b), a.min(b) + SECOND / 2);
            compare(world, if is_wide { (a.min(b), a.max(b)) } else { narrow }, before);
        });
    }
}
