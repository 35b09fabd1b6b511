//! Many lives of three hosts in virtual time, each from one seed: whatever fails, every run ends as it does when nothing fails.
//!
//! `CAISSON_SIM_SECONDS` bounds the time (15 when it is not set), `CAISSON_SIM_SEEDS` asks for so many seeds instead, and
//! `CAISSON_SIM_FIRST` says which is the first: with one seed, that is how a failure is repeated.
#![allow(missing_docs, dead_code, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/queue.rs"]
mod queue;
#[path = "simulation/seen.rs"]
mod seen;
#[path = "simulation/world.rs"]
mod world;

use std::time::{Duration, Instant};

use faults::Plant;
use world::play;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Plays one seed and compares it with what happens when nothing fails.
fn holds(seed: u64, plant: Option<Plant>, expected: &[String]) -> Result<(), String> {
    let came = play(seed, true, plant)?;
    if came.runs == expected {
        Ok(())
    } else {
        Err(format!("runs end otherwise: {:#?}\nnot: {expected:#?}", came.runs))
    }
}

#[test]
fn every_run_ends_as_it_does_when_nothing_fails() {
    let expected = play(0, false, None).unwrap().runs;
    let limit = Duration::from_secs(number("CAISSON_SIM_SECONDS").unwrap_or(15));
    let (first, seeds) = (number("CAISSON_SIM_FIRST").unwrap_or(1), number("CAISSON_SIM_SEEDS"));
    let began = Instant::now();
    let mut played = 0;
    while seeds.map_or_else(|| began.elapsed() < limit, |seeds| played < seeds) {
        let seed = first + played;
        if let Err(what) = holds(seed, None, &expected) {
            panic!(
                "seed {seed}: {what}\nagain: CAISSON_SIM_FIRST={seed} CAISSON_SIM_SEEDS=1 cargo test -p caisson-orchestrator --test simulation every_run"
            );
        }
        played += 1;
    }
    println!("{played} seeds from {first} in {:?}", began.elapsed());
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    for seed in 1..=5 {
        assert_eq!(play(seed, true, None), play(seed, true, None), "seed {seed}");
    }
    assert_ne!(play(1, true, None).unwrap().transcript, play(2, true, None).unwrap().transcript);
}

#[test]
fn bugs_that_are_planted_are_found() {
    let expected = play(0, false, None).unwrap().runs;
    for (plant, bound) in [
        (Plant::EffectBeforeCommit, 20),
        (Plant::NoClaimFence, 300),
        (Plant::LostTimer, 20),
        (Plant::NoDispatch, 20),
        (Plant::DoubleRelay, 20),
    ] {
        let found = (1..=bound).find_map(|seed| holds(seed, Some(plant), &expected).err().map(|what| (seed, what)));
        let (seed, what) = found.unwrap_or_else(|| panic!("{plant:?} is not found with {bound} seeds"));
        println!("{plant:?} is found with seed {seed}: {}", what.lines().next().unwrap_or_default());
    }
}
