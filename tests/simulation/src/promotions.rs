//! A pool's promotions, good, bad and half finished.

use contract::manifest::Pointer;
use controller::ports::{PolicyPublisher, PolicyStore};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use testkit::World;

use crate::now;
use crate::policies::{BAD, GOOD, Package, STUBBORN};

/// What was promoted, and what is to come.
pub struct Promotions {
    pool: String,
    files_due: Vec<(u64, Package)>,
    last_good: Option<String>,
    serial: u64,
    /// Hashes that the pointer ever named.
    pub named: Vec<String>,
}

impl Promotions {
    /// None yet.
    pub fn new(pool: &str) -> Self {
        Self { pool: pool.to_owned(), files_due: Vec::new(), last_good: None, serial: 0, named: Vec::new() }
    }

    /// Files that were missing arrive.
    pub fn arrive(&mut self, world: &World, minute: u64) {
        for (_, package) in self.files_due.extract_if(.., |(due, _)| *due <= minute) {
            upload(world, &package);
        }
    }

    /// Faults stop: missing files arrive, and whoever promoted a policy that always wants the same promotes another.
    /// Other bad promotions stay.
    pub fn heal(&mut self, world: &World) {
        self.arrive(world, u64::MAX);
        if self.last_good.as_ref() == Some(&STUBBORN.sha256) {
            self.promote(world, &GOOD[0]);
        }
    }

    /// Whether there is a policy that must be in charge once the faults have stopped.
    pub fn has_good(&self) -> bool {
        self.last_good.is_some()
    }

    /// A promotion of any kind; what it was, in words.
    pub fn any(&mut self, rng: &mut ChaCha8Rng, world: &World, minute: u64) -> String {
        let good = &GOOD[rng.random_range(0..GOOD.len())];
        match rng.random_range(0..10) {
            0..4 => self.promote(world, good),
            4 => self.promote(world, &STUBBORN),
            5 => {
                self.files_due.push((minute + 3, good.clone()));
                self.point(world, &good.sha256);
                self.last_good = Some(good.sha256.clone());
                "half a promotion: the pointer before the files".into()
            }
            6 => {
                self.point(world, &"0".repeat(64));
                "the pointer points to nothing".into()
            }
            _ => {
                let bad = &BAD[rng.random_range(0..BAD.len())];
                upload(world, bad);
                self.point(world, &bad.sha256);
                format!("a bad policy is promoted: {:?}", bad.refusal)
            }
        }
    }

    /// Uploads a good policy and moves the pointer to it.
    pub fn promote(&mut self, world: &World, package: &Package) -> String {
        upload(world, package);
        self.point(world, &package.sha256);
        self.last_good = Some(package.sha256.clone());
        format!("promoted {}", &package.sha256[..12])
    }

    fn point(&mut self, world: &World, sha256: &str) {
        self.serial += 1;
        self.named.push(sha256.to_owned());
        let outside = world.outside();
        let tag = now(outside.pointer(&self.pool)).expect("the outside's calls never fail").map(|(_, tag)| tag);
        let pointer =
            Pointer { version: 1, sha256: sha256.to_owned(), previous: self.last_good.clone(), serial: self.serial };
        now(outside.move_pointer(&self.pool, &pointer, tag.as_deref())).expect("nobody else moves it");
    }
}

fn upload(world: &World, package: &Package) {
    let outside = world.outside();
    for (name, bytes) in package.files() {
        now(outside.put_file(&package.sha256, &name, bytes)).expect("the same bytes each time");
    }
}
