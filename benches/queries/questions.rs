//! How long each answer takes, without the program around it.

use std::path::Path;
use std::time::Instant;

use sockrec::filter::{Filter, Services, Vocabulary};
use sockrec::query::{By, COLUMNS, Question, Recording, Selection, SortKey};
use sockrec::render::{ConnectionTable, Sheet};

use super::NOON;
use super::measure::{Result, median};
use super::world::SECOND;

const ROUNDS: usize = 3;

fn filtered(text: &str) -> Result<Selection> {
    let services = Services::read("");
    let vocabulary =
        Vocabulary { columns: COLUMNS, answer: &[], services: &services, moment: &|_| Ok(0) };
    let filter = Some(Filter::parse(text, &vocabulary)?);
    Ok(Selection { filter, filter_text: text.to_owned(), ..Selection::default() })
}

/// Asks the library and prints how long each answer took.
pub fn ask(path: &Path, words: &[&str]) -> Result<()> {
    let minute = 60 * SECOND;
    let noon = NOON;
    let day = Selection::default();
    let hour = Selection { from_ns: Some(noon), to_ns: Some(noon + 3_600 * SECOND), ..day.clone() };
    let shown = |columns: &[&str]| columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let twenty =
        Selection { limit: Some(20), columns: shown(&Sheet::SLOW.columns()), ..day.clone() };
    let sort = vec![SortKey { column: "bytes_sent".to_owned(), is_descending: true }];
    let columns = shown(ConnectionTable::COLUMNS);
    let greatest = Selection { sort, limit: Some(20), columns: columns.clone(), ..day.clone() };
    let of_a_peer = filtered("dst 198.51.0.7")?;
    let slow = Selection { columns, ..filtered("rtt > 45ms")? };
    let snapshot_id = Recording::open(path)?.snapshot_at(noon)?.unwrap_or(0);
    let (before_ns, after_ns) = (noon - 3_600 * SECOND, noon);
    let questions: Vec<(&str, Question, &Selection)> = vec![
        ("at", Question::At { snapshot_id }, &day),
        ("diff of an hour", Question::Diff { before_ns, after_ns }, &day),
        ("connections", Question::Connections, &day),
        ("connections of a peer", Question::Connections, &of_a_peer),
        ("its table, rtt > 45 ms", Question::Connections, &slow),
        ("its table, most bytes", Question::Connections, &greatest),
        ("states, 1 min", Question::States { bucket_ns: minute }, &day),
        ("states of an hour, 10 s", Question::States { bucket_ns: 10 * SECOND }, &hour),
        ("churn, 1 min", Question::Churn { bucket_ns: minute }, &day),
        ("listeners", Question::Listeners { snapshot_id: None }, &day),
        ("peers", Question::Totals(By::Peer), &day),
        ("peers of an hour", Question::Totals(By::Peer), &hour),
        ("ports", Question::Totals(By::Port), &day),
        ("processes", Question::Totals(By::Process), &day),
        ("slow", Question::Slow, &day),
        ("its table, the first 20", Question::Slow, &twenty),
        ("slow of an hour", Question::Slow, &hour),
        ("leaks", Question::Leaks { longer_ns: minute }, &day),
    ];
    println!("\nthe library alone, every column unless the table is meant; median of {ROUNDS}");
    println!("{:<24} {:>8} {:>10}", "question", "rows", "median");
    for (name, question, selection) in questions {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word)) {
            continue;
        }
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let recording = Recording::open(path)?;
            rows = recording.answer(question, selection, |_| Ok(()))?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        println!("{name:<24} {rows:>8} {:>7.0} ms", median(times));
    }
    Ok(())
}
