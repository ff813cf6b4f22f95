//! What a policy needs to be taken by an evaluator that trusts some keys: a signature by one of them, of this file and of
//! this manifest. Whatever lacks it is refused with a reason, and the last good policy stays.

use std::sync::OnceLock;

use contract::manifest::{Manifest, Pointer};
use controller::ports::{Kind, PolicyPublisher, PolicyStore};
use evaluator::policies::{InCharge, Policies};
use evaluator::signed::Signatures;
use signing::{PublicKeys, SigningKey, file_name};
use testkit::builders::pool_config;
use testkit::{World, fault, op};

/// A policy's files as they are stored.
struct Files {
    sha256: String,
    onnx: Vec<u8>,
    manifest: Vec<u8>,
}

/// Two policies that differ.
fn policies() -> &'static [Files; 2] {
    static MADE: OnceLock<[Files; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        [1, 2].map(|seed| {
            let weights = twinscaler::ppo::weights::Weights::new(8, seed);
            let packaged = twinscaler::parity::package(&weights, Default::default());
            let (onnx, manifest): (Vec<u8>, Manifest) = packaged.unwrap();
            Files { sha256: manifest.sha256.clone(), onnx, manifest: serde_json::to_vec_pretty(&manifest).unwrap() }
        })
    })
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32]).unwrap()
}

fn trusting(keys: &[&SigningKey]) -> Policies {
    let text: Vec<String> = keys.iter().map(|key| key.public().to_string()).collect();
    Policies::trusting(Some(PublicKeys::parse(&text.join(",")).unwrap()))
}

async fn put(world: &World, files: &Files) {
    world.put_file(&files.sha256, "policy.onnx", files.onnx.clone()).await.unwrap();
    world.put_file(&files.sha256, "manifest.json", files.manifest.clone()).await.unwrap();
}

async fn sign(world: &World, files: &Files, key: &SigningKey) {
    let signature = key.sign(&files.sha256, &files.manifest);
    world.put_file(&files.sha256, &file_name(key.public()), signature).await.unwrap();
}

fn point(world: &World, which: usize) {
    let pointer = Pointer { version: 1, sha256: policies()[which].sha256.clone(), previous: None, serial: 1 };
    world.overwrite_pointer("p", pointer);
}

/// A pool whose pointer is at policy 0, which is stored and not signed.
async fn world() -> World {
    let world = World::with_pool(&pool_config("p"));
    put(&world, &policies()[0]).await;
    point(&world, 0);
    world
}

async fn in_charge(policies: &Policies, world: &World) -> Result<InCharge, String> {
    policies.in_charge(world, "p", world.pointer("p").await, None).await
}

async fn refusal(policies: &Policies, world: &World) -> String {
    in_charge(policies, world).await.map(|taken| taken.policy.sha256().to_owned()).unwrap_err()
}

#[tokio::test]
async fn a_signed_policy_is_taken_and_without_keys_an_unsigned_one_too() {
    let world = world().await;
    assert!(in_charge(&Policies::trusting(None), &world).await.unwrap().warning.is_none());
    sign(&world, &policies()[0], &key(1)).await;
    let taken = in_charge(&trusting(&[&key(1)]), &world).await.unwrap();
    assert_eq!((taken.policy.sha256(), taken.warning), (policies()[0].sha256.as_str(), None));
}

#[tokio::test]
async fn a_policy_without_a_signature_is_refused_until_it_has_one() {
    let (world, policies) = (world().await, trusting(&[&key(1)]));
    let said = refusal(&policies, &world).await;
    assert!(said.contains(&format!("refused: no signature by key {}", key(1).public().id())), "{said}");
    sign(&world, &self::policies()[0], &key(1)).await;
    in_charge(&policies, &world).await.unwrap();
}

#[tokio::test]
async fn a_signature_by_another_key_counts_for_nothing_even_under_the_trusted_ones_name() {
    let world = world().await;
    let Files { sha256, manifest, .. } = &policies()[0];
    sign(&world, &policies()[0], &key(2)).await;
    assert!(refusal(&trusting(&[&key(1)]), &world).await.contains("no signature by key"));
    let theirs = String::from_utf8(key(2).sign(sha256, manifest)).unwrap();
    let forged = theirs.replace(key(2).public().id(), key(1).public().id());
    world.put_file(sha256, &file_name(key(1).public()), forged.into_bytes()).await.unwrap();
    assert!(refusal(&trusting(&[&key(1)]), &world).await.contains("signature is not by key"));
}

#[tokio::test]
async fn an_altered_file_is_refused_although_its_name_is_signed() {
    let world = world().await;
    let Files { sha256, onnx, .. } = &policies()[0];
    sign(&world, &policies()[0], &key(1)).await;
    let mut altered = onnx.clone();
    *altered.last_mut().unwrap() ^= 1;
    world.overwrite_file(sha256, "policy.onnx", altered);
    assert!(refusal(&trusting(&[&key(1)]), &world).await.contains("policy file has sha256"));
}

/// One byte more is enough, even one that changes nothing for whoever reads the manifest.
#[tokio::test]
async fn an_altered_manifest_is_refused() {
    let world = world().await;
    let Files { sha256, manifest, .. } = &policies()[0];
    sign(&world, &policies()[0], &key(1)).await;
    world.overwrite_file(sha256, "manifest.json", [manifest.as_slice(), b"\n"].concat());
    assert!(refusal(&trusting(&[&key(1)]), &world).await.contains("signature is not by key"));
    in_charge(&Policies::trusting(None), &world).await.unwrap();
}

/// The signature comes before everything that is read out of the files.
#[tokio::test]
async fn files_without_a_valid_signature_are_not_read() {
    let world = World::with_pool(&pool_config("p"));
    let sha256 = &policies()[0].sha256;
    world.put_file(sha256, "policy.onnx", b"no ONNX".to_vec()).await.unwrap();
    world.put_file(sha256, "manifest.json", b"no JSON".to_vec()).await.unwrap();
    point(&world, 0);
    let said = refusal(&trusting(&[&key(1)]), &world).await;
    assert!(said.contains("no signature") && !said.contains("readable"), "{said}");
    assert!(refusal(&Policies::trusting(None), &world).await.contains("manifest is not readable"));
}

#[tokio::test]
async fn while_a_key_is_replaced_either_signs() {
    let (world, old, new) = (world().await, key(1), key(2));
    sign(&world, &policies()[0], &old).await;
    in_charge(&trusting(&[&new, &old]), &world).await.unwrap();
    assert!(refusal(&trusting(&[&new]), &world).await.contains("no signature"), "the old key is given up");
    sign(&world, &policies()[0], &new).await;
    in_charge(&trusting(&[&new]), &world).await.unwrap();
}

#[tokio::test]
async fn the_last_good_policy_stays_when_an_unsigned_one_is_promoted() {
    let (world, trusting) = (world().await, trusting(&[&key(1)]));
    sign(&world, &policies()[0], &key(1)).await;
    in_charge(&trusting, &world).await.unwrap();
    put(&world, &policies()[1]).await;
    point(&world, 1);
    let taken = in_charge(&trusting, &world).await.unwrap();
    assert_eq!(taken.policy.sha256(), policies()[0].sha256);
    assert!(taken.warning.unwrap().contains("refused: no signature"));
}

#[tokio::test]
async fn a_signature_that_cannot_be_read_says_so() {
    let (world, key) = (world().await, key(1));
    let Files { sha256, manifest, .. } = &policies()[0];
    sign(&world, &policies()[0], &key).await;
    let keys = PublicKeys::parse(&key.public().to_string()).unwrap();
    world.fail_next(op::POLICIES_FILE, fault(op::POLICIES_FILE, "SlowDown", Kind::Throttled));
    let said = Signatures::read(&world, &keys, sha256).await.check(sha256, manifest).unwrap_err();
    assert!(said.contains("SlowDown"), "{said}");
    assert_eq!(Signatures::read(&world, &keys, sha256).await.check(sha256, manifest), Ok(()));
}
