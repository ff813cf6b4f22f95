//! The policy and the tick, in this process: no network, no runtime.

use std::hint::black_box;
use std::path::Path;

use contract::event::Tick;
use contract::manifest::{Manifest, Pointer};
use contract::pool::OUTSIDE_METRICS;
use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, FEATURE_COUNT, Features};
use controller::ports::{Instances, Point, PolicyPublisher, Tasks};
use evaluator::handler::{Evaluator, Ports};
use policy::{Policy, format};
use signing::{PublicKeys, SigningKey, file_name};
use testkit::World;
use testkit::builders::{TICK, instance, pool_config, task};

use crate::Failure;
use crate::stats::{Samples, head};

const LOADS: usize = 200;
const STEPS: usize = 1000;
const BATCHES: usize = 100;
const TICKS: u64 = 300;
/// Tasks that wait.
const QUEUE: u64 = 50;

/// A policy's files, signed.
pub struct Files {
    pub sha256: String,
    pub onnx: Vec<u8>,
    pub manifest: Vec<u8>,
    pub key: SigningKey,
}

impl Files {
    /// Those of a folder, with a key made for the purpose.
    pub fn read(dir: &Path) -> Result<Self, Failure> {
        let onnx = std::fs::read(dir.join("policy.onnx"))?;
        let manifest = std::fs::read(dir.join("manifest.json"))?;
        Ok(Self { sha256: sha256_hex(&onnx), onnx, manifest, key: SigningKey::generate()? })
    }

    /// What lies in the bucket, by name.
    pub fn stored(&self) -> [(String, Vec<u8>); 3] {
        let signature = self.key.sign(&self.sha256, &self.manifest);
        [
            ("policy.onnx".into(), self.onnx.clone()),
            ("manifest.json".into(), self.manifest.clone()),
            (file_name(self.key.public()), signature),
        ]
    }

    pub fn trusted(&self) -> Result<PublicKeys, Failure> {
        Ok(PublicKeys::parse(&self.key.public().to_string())?)
    }

    pub fn loaded(&self) -> Result<Policy, Failure> {
        Ok(Policy::load(&self.onnx, &serde_json::from_slice(&self.manifest)?)?)
    }
}

/// Measures and prints.
pub fn measure(files: &Files) -> Result<(), Failure> {
    load(files)?;
    inference(files)?;
    tick(files)
}

fn load(files: &Files) -> Result<(), Failure> {
    let manifest: Manifest = serde_json::from_slice(&files.manifest)?;
    let signature = files.key.sign(&files.sha256, &files.manifest);
    let verify = || files.key.public().verify(&files.sha256, &files.manifest, &signature);
    head("policy load, from bytes in memory");
    Samples::take(LOADS, || {
        verify().expect("it is signed");
        black_box(files.loaded().expect("it is sound"));
    })
    .tell("all of it: signature, manifest, hash, ONNX, golden steps");
    Samples::take(LOADS, || verify().expect("it is signed")).tell("  signature");
    Samples::take(LOADS, || {
        black_box(serde_json::from_slice::<Manifest>(&files.manifest).expect("it is sound"));
    })
    .tell("  manifest");
    Samples::take(LOADS, || {
        black_box(sha256_hex(&files.onnx));
    })
    .tell("  SHA-256");
    let model = format::decode(&files.onnx)?;
    Samples::take(LOADS, || {
        black_box(format::decode(&files.onnx).expect("it is sound"));
    })
    .tell("  ONNX decoded");
    Samples::take(LOADS, || {
        black_box(format::read(&model, manifest.lstm_cells).expect("it is sound"));
    })
    .tell("  ONNX compared with the one form");
    let policy = files.loaded()?;
    let golden: Vec<(Features, _)> =
        manifest.golden.iter().filter_map(|golden| Some((golden.features()?, golden.mask))).collect();
    Samples::take(LOADS, || {
        let mut state = policy.zero_state();
        for (features, mask) in &golden {
            black_box(policy.step(features, mask, &mut state).expect("it is sound"));
        }
    })
    .tell(&format!("  {} golden steps", golden.len()));
    Ok(())
}

fn inference(files: &Files) -> Result<(), Failure> {
    let policy = files.loaded()?;
    let features: Features = std::array::from_fn(|i| i as f32 / FEATURE_COUNT as f32);
    let mut state = policy.zero_state();
    head("inference, one step");
    let batches = Samples::take(BATCHES, || {
        for _ in 0..STEPS {
            black_box(policy.step(&features, &[true; ACTION_COUNT], &mut state).expect("it is sound"));
        }
    });
    batches.each_of(STEPS).tell(&format!("tract, {} cells", policy.cells()));
    Ok(())
}

fn tick(files: &Files) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let world = World::with_pool(&pool_config("p"));
    runtime.block_on(plant(&world, files))?;
    let evaluator = Evaluator::new(Ports {
        tasks: world.clone(),
        instances: world.clone(),
        decisions: world.clone(),
        control: world.clone(),
        metrics: world.clone(),
        policies: world.clone(),
    })
    .trusting(Some(files.trusted()?));
    let config = pool_config("p");
    let mut at = TICK;
    head("tick over ports in memory");
    let ticks = Samples::take(TICKS as usize, || {
        at += 60;
        for name in OUTSIDE_METRICS {
            world.add_point("p", &config.metrics[name], Point { at_ms: (at - 60) * 1000, value: 0.5 });
        }
        let scheduled_time = jiff::Timestamp::from_second(at as i64).expect("a time");
        let decided = runtime.block_on(evaluator.tick(&Tick { pool: "p".into(), scheduled_time }));
        let decision = decided.expect("ports in memory do not fail").decision().expect("the pool is not off");
        assert!(decision.lstm.is_some(), "the policy ran: {}", decision.reason);
    });
    ticks.tell("warm: collected, encoded, inferred, guarded, written");
    Ok(())
}

/// Three machines, tasks that wait, a signed policy in charge.
async fn plant(world: &World, files: &Files) -> Result<(), Failure> {
    for size in 0..3 {
        let record = instance("p", &format!("i-{size}"), size, (TICK - 900) * 1000);
        Instances::put_new(world, &record).await?;
        world.mark_ready(&record, (TICK - 800) * 1000).await?;
    }
    for k in 0..QUEUE {
        Tasks::put(world, &task("p", &format!("t-{k}"), (TICK - 90 - k) * 1000)).await?;
    }
    for (name, bytes) in files.stored() {
        world.put_file(&files.sha256, &name, bytes).await?;
    }
    let pointer = Pointer { version: 1, sha256: files.sha256.clone(), previous: None, serial: 1 };
    Ok(world.move_pointer("p", &pointer, None).await?)
}
