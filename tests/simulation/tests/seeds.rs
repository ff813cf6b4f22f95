//! Three hundred seeds of all profiles, every seed that failed once, and the event log's hash.

use std::sync::Mutex;

use simulation::profile::{PROFILES, Profile};
use simulation::{Failure, kept, run, run_all};

/// Seeds of one run of the tests. Hell is where most of what must happen happens.
const SEEDS: u64 = 300;

/// Seeds whose hashes are compared.
const COMPARED: u64 = 6;

fn profile(seed: u64) -> Profile {
    [Profile::Calm, Profile::Rough, Profile::Hell, Profile::Hell][(seed % 4) as usize]
}

fn told(failures: &[Box<Failure>]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn every_invariant_holds_over_three_hundred_seeds_and_everything_happened_at_least_once() {
    let seeds: Vec<(Profile, u64)> = (0..SEEDS).map(|seed| (profile(seed), seed)).collect();
    let summary = run_all(&seeds, || {});
    assert!(summary.failures.is_empty(), "{}", told(&summary.failures));
    assert_eq!(summary.runs, SEEDS);
    let missing = summary.seen.missing();
    assert!(missing.is_empty(), "never happened, so that nothing is tested: {missing:#?}");
}

#[test]
fn seeds_that_failed_once_hold() {
    let kept = kept::read(include_str!("../seeds/kept.txt")).unwrap();
    assert!(!kept.is_empty(), "the file of kept seeds is empty");
    let seeds: Vec<(Profile, u64)> = kept.iter().map(|kept| (kept.profile, kept.seed)).collect();
    let summary = run_all(&seeds, || {});
    assert!(summary.failures.is_empty(), "{}", told(&summary.failures));
}

/// I12.
#[test]
fn the_same_seed_gives_the_same_event_log_on_any_number_of_threads() {
    for profile in PROFILES {
        let alone: Vec<String> = (0..COMPARED).map(|seed| run(profile, seed).unwrap().hash).collect();
        let together = Mutex::new(vec![String::new(); COMPARED as usize]);
        std::thread::scope(|scope| {
            for seed in 0..COMPARED {
                let together = &together;
                scope.spawn(move || {
                    let hash = run(profile, seed).unwrap().hash;
                    together.lock().unwrap()[seed as usize] = hash;
                });
            }
        });
        assert_eq!(alone, together.into_inner().unwrap(), "{profile}");
        let mut different = alone.clone();
        different.dedup();
        assert_eq!(different.len(), alone.len(), "other seeds give other logs");
    }
}
