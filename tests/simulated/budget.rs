//! Ticks that are left out to keep within a limit of CPU time.

use sockrec::query::Question;
use sockrec::record::CpuShare;

use crate::socket::FakeSocket;
use crate::world::{SECOND, World};

const GAPS: &[&str] = &["kind", "snapshots", "count", "message"];

/// A machine on which each of so many ticks takes half a second of CPU time.
fn busy(max_cpu: Option<CpuShare>, ticks: usize) -> World {
    let mut world = World { max_cpu, cpu_ns_a_tick: SECOND / 2, ..World::default() };
    let a = FakeSocket::established(1, 1_001, 80);
    for _ in 0..ticks {
        world.shows(&[&a]);
    }
    world
}

#[test]
fn without_a_limit_every_tick_is_taken() {
    let world = busy(None, 50);
    let (summary, _) = world.record();
    assert_eq!((summary.progress.missed_ticks, summary.progress.left_out_ticks), (0, 0));
}

#[test]
fn what_stays_within_the_limit_leaves_nothing_out() {
    let world = busy(Some(CpuShare(0.5)), 50);
    let (summary, _) = world.record();
    assert_eq!((summary.progress.missed_ticks, summary.progress.left_out_ticks), (0, 0));
}

/// A fifth of a CPU is two and a half seconds for each tick; ten seconds' worth was saved up, four ticks.
#[test]
fn ticks_beyond_the_limit_are_left_out_and_told_of_as_one_gap() {
    let world = busy(Some(CpuShare(0.2)), 24);
    let (summary, _) = world.record();
    let left_out = summary.progress.left_out_ticks;
    assert_eq!(summary.progress.missed_ticks, left_out, "no other tick was missed");
    let gaps = world.answer(Question::Gaps, GAPS);
    let sum: u64 = gaps
        .iter()
        .map(|gap| {
            assert!(gap.contains("kind=ticks_left_out "), "{gap}");
            assert!(gap.ends_with("message=to keep within 20% of a CPU"), "{gap}");
            let count = gap.split("count=").nth(1).unwrap().split(' ').next().unwrap();
            count.parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(sum, left_out);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    // 24 ticks of half a second at a fifth of a CPU, less what was saved up.
    let (_, to_ns) = world.span_ns();
    let expected = (24 * SECOND / 2 - 2 * SECOND) * 5;
    assert!((to_ns - expected).abs() <= 4 * SECOND, "{to_ns} {expected}");
}
