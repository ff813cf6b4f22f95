//! A pool's promotions. Good policies are promoted and rolled back by the real promoter, which may die anywhere and is
//! then simply run again; bad and half-finished ones are made by hand, for no promoter makes them.

use contract::manifest::Pointer;
use controller::ports::{Kind, PolicyPublisher, PolicyStore, Port};
use promotion::{promote, roll_back};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use testkit::World;

use crate::now;
use crate::policies::{BAD, GOOD, KEY, Package, STUBBORN, verified};
use crate::seen::{Event, Seen};

/// What a promoter is run for.
#[derive(Clone, Debug)]
pub enum Job {
    /// To put this policy in charge.
    Promote(&'static Package),
    /// To go back from the policy with this hash. Whoever runs it again looks first whether that one is still in charge.
    RollBack(String),
}

impl Job {
    /// One run of the promoter: the pointer that it leaves; none if there is nothing to go back from any more.
    ///
    /// # Errors
    /// If the store fails, or another promoter was faster.
    pub async fn done(self, world: &World, pool: &str) -> Port<Option<Pointer>> {
        let stands = world.pointer(pool).await?;
        match self {
            Job::Promote(package) => {
                promote(world, pool, &package.packed(), stands.as_ref(), Some(&KEY)).await.map(Some)
            }
            Job::RollBack(from) => match stands {
                Some((pointer, _)) if pointer.sha256 == from => roll_back(world, pool).await.map(Some),
                _ => Ok(None),
            },
        }
    }
}

/// What was promoted, and what is to come.
pub struct Promotions {
    pool: String,
    files_due: Vec<(u64, Package)>,
    last_good: Option<String>,
    healed: bool,
    /// All that promoters were ever run for.
    pub jobs: Vec<Job>,
    /// Jobs to run, by their place, with the minute.
    asked: Vec<(u64, usize)>,
    /// Jobs whose first run died.
    died: Vec<usize>,
    /// Hashes that the pointer ever named.
    pub named: Vec<String>,
}

impl Promotions {
    /// None yet.
    pub fn new(pool: &str) -> Self {
        Self {
            pool: pool.to_owned(),
            files_due: Vec::new(),
            last_good: None,
            healed: false,
            jobs: Vec::new(),
            asked: Vec::new(),
            died: Vec::new(),
            named: Vec::new(),
        }
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
        self.healed = true;
        self.arrive(world, u64::MAX);
        self.mend();
    }

    fn mend(&mut self) {
        if self.healed && self.last_good.as_ref() == Some(&STUBBORN.sha256) {
            self.ask(Job::Promote(&GOOD[0]), 0);
        }
    }

    /// Whether there is a policy that must be in charge once the faults have stopped.
    pub fn has_good(&self) -> bool {
        self.last_good.is_some()
    }

    /// Whether people have moved the pointer to this policy before its files.
    pub fn lacks_files(&self, sha256: &str) -> bool {
        self.files_due.iter().any(|(_, package)| package.sha256 == sha256)
    }

    /// Jobs that are still to be run.
    pub fn open(&self) -> usize {
        self.asked.len()
    }

    fn ask(&mut self, job: Job, minute: u64) {
        self.asked.push((minute, self.jobs.len()));
        self.jobs.push(job);
    }

    /// The jobs that are to be run by this minute.
    pub fn due(&mut self, minute: u64) -> Vec<usize> {
        self.asked.extract_if(.., |(due, _)| *due <= minute).map(|(_, job)| job).collect()
    }

    /// A run of the promoter died or failed: it is run again.
    pub fn again(&mut self, job: usize, minute: u64) {
        self.died.push(job);
        self.asked.push((minute, job));
    }

    /// A run of the promoter has ended.
    pub fn ended(&mut self, job: usize, done: &Port<Option<Pointer>>, minute: u64, seen: &mut Seen) {
        match done {
            Ok(done) => {
                let back = matches!(self.jobs[job], Job::RollBack(_));
                seen.note_if(done.is_some() && back, Event::RolledBack);
                seen.note_if(self.died.contains(&job), Event::PromotionRepeated);
            }
            Err(error) if error.kind == Kind::Conflict => seen.note(Event::PromotionRaced),
            // nothing to go back to
            Err(error) if error.operation == "roll back" => {}
            Err(_) => self.again(job, minute + 1),
        }
    }

    /// The promoter has moved the pointer.
    pub fn moved(&mut self, pointer: &Pointer) {
        self.named.push(pointer.sha256.clone());
        if verified(&pointer.sha256).is_some() {
            self.last_good = Some(pointer.sha256.clone());
        }
        self.mend();
    }

    /// A promotion of any kind; what it was, in words.
    pub fn any(&mut self, rng: &mut ChaCha8Rng, world: &World, minute: u64) -> String {
        let which = rng.random_range(0..GOOD.len());
        let good = &GOOD[which];
        match rng.random_range(0..13) {
            0..4 => self.ask(Job::Promote(good), minute),
            4 | 5 => {
                self.ask(Job::Promote(good), minute);
                self.ask(Job::Promote(&GOOD[(which + 1) % GOOD.len()]), minute);
                return "two promoters at once".into();
            }
            6 => {
                let stands = now(world.outside().pointer(&self.pool)).expect("the outside's calls never fail");
                let Some((pointer, _)) = stands else { return "nothing to roll back".into() };
                self.ask(Job::RollBack(pointer.sha256), minute);
                return "a roll-back".into();
            }
            7 => self.ask(Job::Promote(&STUBBORN), minute),
            8 => {
                self.files_due.push((minute + 3, good.clone()));
                self.point(world, &good.sha256);
                self.last_good = Some(good.sha256.clone());
                return "half a promotion: the pointer before the files".into();
            }
            9 => {
                self.point(world, &"0".repeat(64));
                return "the pointer points to nothing".into();
            }
            _ => {
                let bad = &BAD[rng.random_range(0..BAD.len())];
                upload(world, bad);
                self.point(world, &bad.sha256);
                return format!("a bad policy is promoted: {:?}", bad.refusal);
            }
        }
        "a promoter".into()
    }

    /// Puts a good policy in charge before the run begins.
    pub fn begin_with(&mut self, world: &World, package: &Package) {
        upload(world, package);
        self.point(world, &package.sha256);
        self.last_good = Some(package.sha256.clone());
    }

    /// Moves the pointer by hand.
    fn point(&mut self, world: &World, sha256: &str) {
        self.named.push(sha256.to_owned());
        let stands = now(world.outside().pointer(&self.pool)).expect("the outside's calls never fail");
        let serial = 1 + stands.map_or(0, |(pointer, _)| pointer.serial);
        let pointer = Pointer { version: 1, sha256: sha256.to_owned(), previous: self.last_good.clone(), serial };
        world.overwrite_pointer(&self.pool, pointer);
    }
}

fn upload(world: &World, package: &Package) {
    let outside = world.outside();
    for (name, bytes) in package.files() {
        now(outside.put_file(&package.sha256, &name, bytes)).expect("the same bytes each time");
    }
}
