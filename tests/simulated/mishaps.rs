//! Random lifetimes, recorded under random mishaps, and held against what really happened.

mod check;
mod machine;
mod script;
mod truth;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use check::complaints;
use machine::{Machine, ScriptedPace, Timeline};
use script::{Script, any_script};
use truth::Truth;

use crate::world::World;

/// So many scripts are tried; more by this variable of the environment.
const CASES: u32 = 48;
const CASES_VARIABLE: &str = "SOCKREC_PROPERTY_CASES";

/// Records what a script says; what is wrong with the recording.
fn wrong_with(script: &Script) -> Vec<String> {
    let world = World { interval_ns: script.interval_us * 1_000, ..World::default() };
    let truth = Truth::of(&script.slots);
    let time = Timeline::of(script);
    let now_us = Cell::new(0);
    for run in &script.runs {
        let mut kernel = Machine::new(script, run, &truth, &time, &now_us);
        let mut pace = ScriptedPace { run, time: &time, now_us: &now_us, tick: 0 };
        world.record_paced(&mut pace, &mut kernel, run.ticks.len() as u64, &mut |_| ()).unwrap();
        now_us.set(now_us.get() + run.gap_us);
    }
    complaints(&world, &truth, &time, now_us.get())
}

fn cases() -> u32 {
    std::env::var(CASES_VARIABLE).map_or(CASES, |cases| cases.parse().unwrap())
}

/// The same with one run of a recorder that reads every event at once.
fn without_restarts(mut script: Script) -> Script {
    script.runs.truncate(1);
    script.stalls.clear();
    script.losses.clear();
    script
}

fn any_plain_script() -> impl Strategy<Value = Script> {
    any_script().prop_map(without_restarts)
}

fn is_true(script: &Script) -> Result<(), TestCaseError> {
    let wrong = wrong_with(script);
    prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The same scripts each time; others with `PROPTEST_RNG_SEED`.
fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    let rng_seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        seed => seed,
    };
    ProptestConfig { cases: cases(), failure_persistence: None, rng_seed, ..given }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rebuilt_lifetimes_are_true(script in any_plain_script()) {
        is_true(&script)?;
    }

    #[test]
    fn rebuilt_lifetimes_are_true_whatever_happens_to_the_recorder(script in any_script()) {
        is_true(&script)?;
    }
}
