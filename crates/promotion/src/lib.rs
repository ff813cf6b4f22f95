//! Promotion and roll-back: files written once under the policy's hash, then one pointer moved by compare-and-swap.
//!
//! A promoter may stop anywhere. Before the pointer moves nobody looks at the files; what was written is there when the
//! promotion is repeated, and the same bytes again are no error. A repetition may have judged the same policy on newer records: what
//! the first attempt wrote of its evaluation stays, and is what is signed.

use contract::limits::{POLICY_BYTES_MAX, SIGNATURE_BYTES_MAX};
use contract::manifest::{Manifest, Pointer};
use controller::ports::{Kind, PolicyPublisher, PolicyStore, Port, PortError};
use policy::Policy;
use signing::{PublicKeys, SigningKey, file_name};

/// Version of the stored pointer.
const POINTER_VERSION: u32 = 1;
/// The manifest's name.
const MANIFEST: &str = "manifest.json";
/// What people read of a policy.
const REPORT: &str = "report.html";

/// A policy as it is stored.
#[derive(Clone, Debug)]
pub struct Package {
    /// SHA-256 of `policy.onnx`, hexadecimal: the policy's name.
    pub sha256: String,
    /// The files besides the manifest, by name.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// The manifest's bytes: those are what is signed.
    pub manifest: Vec<u8>,
}

/// Stores a policy and puts it in charge of a pool, in place of the one behind `incumbent` (pointer and tag, as read
/// before the comparison), signed if there is a key. Readers see the old policy or the new one, never a mix.
///
/// # Errors
/// A conflict if another promotion moved the pointer meanwhile: then nothing changed.
pub async fn promote<P: PolicyPublisher>(
    store: &P,
    pool: &str,
    package: &Package,
    incumbent: Option<&(Pointer, String)>,
    key: Option<&SigningKey>,
) -> Port<Pointer> {
    keep(store, package, key).await?;
    put_in_charge(store, pool, &package.sha256, incumbent).await
}

/// The first half: the files, which nobody looks at yet, and the signature last.
///
/// # Errors
/// A conflict if other files are there under the policy's hash, but for what an earlier attempt said of the same policy.
pub async fn keep<P: PolicyPublisher>(store: &P, package: &Package, key: Option<&SigningKey>) -> Port<()> {
    let Package { sha256, files, manifest } = package;
    for (name, bytes) in files {
        match store.put_file(sha256, name, bytes.clone()).await {
            Err(error) if error.kind == Kind::Conflict && *name == REPORT => {}
            kept => kept?,
        }
    }
    let manifest = keep_manifest(store, sha256, manifest).await?;
    let Some(key) = key else { return Ok(()) };
    store.put_file(sha256, &file_name(key.public()), key.sign(sha256, &manifest)).await
}

/// Stores the manifest, or leaves the one that is there if it says the same of how the policy is to be run. Returns what is there.
async fn keep_manifest<P: PolicyPublisher>(store: &P, sha256: &str, manifest: &[u8]) -> Port<Vec<u8>> {
    match store.put_file(sha256, MANIFEST, manifest.to_vec()).await {
        Err(conflict) if conflict.kind == Kind::Conflict => {
            let theirs = store.manifest(sha256).await?;
            let is_the_same = to_run(&theirs).is_some_and(|policy| Some(policy) == to_run(manifest));
            if is_the_same { Ok(theirs) } else { Err(conflict) }
        }
        kept => kept.map(|()| manifest.to_vec()),
    }
}

/// A manifest less what is only said of the policy; none if it cannot be read.
fn to_run(manifest: &[u8]) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    Some(Manifest { parent: None, settings: Default::default(), evaluation: Default::default(), ..manifest })
}

/// Signs a policy that is in the store already, if it passes the evaluator's own checks: when signatures are introduced,
/// or a key is replaced. A policy that this key has signed stays as it is.
///
/// # Errors
/// If it cannot be read, would be refused, or another signature is there under the key's name.
pub async fn sign_stored<P: PolicyPublisher>(store: &P, sha256: &str, key: &SigningKey) -> Port<()> {
    let (manifest, onnx) = (store.manifest(sha256).await?, store.file(sha256, "policy.onnx", POLICY_BYTES_MAX).await?);
    let refused = |e: String| PortError::invalid("sign", format!("policy {sha256} is not one to sign: {e}"));
    let read: Manifest = serde_json::from_slice(&manifest).map_err(|e| refused(e.to_string()))?;
    if read.sha256 != sha256 {
        return Err(refused("its manifest names another".to_owned()));
    }
    Policy::load(&onnx, &read).map_err(|e| refused(e.to_string()))?;
    store.put_file(sha256, &file_name(key.public()), key.sign(sha256, &manifest)).await
}

/// The id of the first of these keys that has signed a policy, if one has.
///
/// # Errors
/// If the store fails.
pub async fn signed_by<P: PolicyStore>(store: &P, sha256: &str, keys: &PublicKeys) -> Port<Option<String>> {
    let manifest = store.manifest(sha256).await?;
    for key in keys.iter() {
        match store.file(sha256, &file_name(key), SIGNATURE_BYTES_MAX).await {
            Ok(file) if key.verify(sha256, &manifest, &file).is_ok() => return Ok(Some(key.id().to_owned())),
            Ok(_) => {}
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The second half: the pointer. A policy that is in charge stays so, with the one before it: whoever promotes it once
/// more, because the first promotion's answer was lost, must not make it its own predecessor.
///
/// # Errors
/// A conflict if another promotion moved the pointer meanwhile: then nothing changed.
pub async fn put_in_charge<P: PolicyPublisher>(
    store: &P,
    pool: &str,
    sha256: &str,
    incumbent: Option<&(Pointer, String)>,
) -> Port<Pointer> {
    if let Some((pointer, _)) = incumbent.filter(|(pointer, _)| pointer.sha256 == sha256) {
        return Ok(pointer.clone());
    }
    let pointer = Pointer {
        version: POINTER_VERSION,
        sha256: sha256.to_owned(),
        previous: incumbent.map(|(pointer, _)| pointer.sha256.clone()),
        serial: incumbent.map_or(1, |(pointer, _)| pointer.serial + 1),
    };
    store.move_pointer(pool, &pointer, incumbent.map(|(_, tag)| tag.as_str())).await?;
    Ok(pointer)
}

/// Puts the previous policy back in charge.
///
/// # Errors
/// If there is none, or the pointer moved meanwhile.
pub async fn roll_back<P: PolicyPublisher>(store: &P, pool: &str) -> Port<Pointer> {
    let nothing = |what: &str| PortError::not_found("roll back", format!("pool {pool} has no {what} policy"));
    let (current, tag) = store.pointer(pool).await?.ok_or_else(|| nothing("promoted"))?;
    // an older promoter, run twice, made a policy its own predecessor
    let previous = current.previous.filter(|previous| *previous != current.sha256);
    let previous = previous.ok_or_else(|| nothing("previous"))?;
    let pointer = Pointer {
        version: POINTER_VERSION,
        sha256: previous,
        previous: Some(current.sha256),
        serial: current.serial + 1,
    };
    store.move_pointer(pool, &pointer, Some(&tag)).await?;
    Ok(pointer)
}

#[cfg(test)]
mod tests {
    use testkit::builders::pool_config;
    use testkit::{World, fault, op};

    use super::*;

    /// The policy that is shipped.
    fn shipped() -> Package {
        let file = |name: &str| {
            let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/initial");
            std::fs::read(dir.join(name)).unwrap()
        };
        let manifest = file(MANIFEST);
        let sha256 = serde_json::from_slice::<Manifest>(&manifest).unwrap().sha256;
        Package { sha256, files: vec![("policy.onnx", file("policy.onnx"))], manifest }
    }

    /// Files that nobody will run.
    fn other(name: char) -> Package {
        let files = vec![("policy.onnx", vec![name as u8]), ("report.html", Vec::new())];
        Package { sha256: name.to_string().repeat(64), files, manifest: b"{}".into() }
    }

    fn key(byte: u8) -> (SigningKey, PublicKeys) {
        let key = SigningKey::from_seed(&[byte; 32]).unwrap();
        let trusted = PublicKeys::parse(&key.public().to_string()).unwrap();
        (key, trusted)
    }

    fn world() -> World {
        World::with_pool(&pool_config("p"))
    }

    async fn signed(world: &World, package: &Package, keys: &PublicKeys) -> bool {
        signed_by(world, &package.sha256, keys).await.unwrap().is_some()
    }

    /// Promotes over whatever stands.
    async fn promoted(world: &World, package: &Package, key: Option<&SigningKey>) -> Port<Pointer> {
        let stands = world.pointer("p").await.unwrap();
        promote(world, "p", package, stands.as_ref(), key).await
    }

    #[tokio::test]
    async fn what_is_promoted_with_a_key_is_signed_and_a_roll_back_brings_a_signed_one_back() {
        let (world, (key, trusted)) = (world(), key(1));
        let (first, second) = (other('a'), other('b'));
        promoted(&world, &first, Some(&key)).await.unwrap();
        promoted(&world, &second, Some(&key)).await.unwrap();
        assert!(signed(&world, &second, &trusted).await);
        let pointer = roll_back(&world, "p").await.unwrap();
        assert_eq!((pointer.sha256, pointer.previous), (first.sha256.clone(), Some(second.sha256)));
        assert_eq!(pointer.serial, 3);
        assert!(signed(&world, &first, &trusted).await);
    }

    #[tokio::test]
    async fn without_a_key_nothing_is_signed_until_somebody_signs_what_is_there() {
        let (world, (old, trusts_old), (new, trusts_new)) = (world(), key(1), key(2));
        let package = shipped();
        promoted(&world, &package, None).await.unwrap();
        assert!(!signed(&world, &package, &trusts_old).await);
        for key in [&old, &old, &new] {
            sign_stored(&world, &package.sha256, key).await.unwrap();
        }
        assert!(signed(&world, &package, &trusts_old).await && signed(&world, &package, &trusts_new).await);
    }

    #[tokio::test]
    async fn what_the_evaluator_would_refuse_is_not_signed() {
        let (world, (key, trusted)) = (world(), key(1));
        let package = shipped();
        keep(&world, &package, None).await.unwrap();
        world.overwrite_file(&package.sha256, "policy.onnx", b"another".to_vec());
        let error = sign_stored(&world, &package.sha256, &key).await.unwrap_err();
        assert!(error.to_string().contains("is not one to sign"), "{error}");
        assert!(!signed(&world, &package, &trusted).await);
    }

    /// The shipped policy with another evaluation, and with another limit of what it may do.
    fn judged_anew(change: impl Fn(&mut Manifest)) -> Package {
        let mut package = shipped();
        let mut manifest: Manifest = serde_json::from_slice(&package.manifest).unwrap();
        change(&mut manifest);
        package.manifest = serde_json::to_vec(&manifest).unwrap();
        package.files.push((REPORT, package.manifest.clone()));
        package
    }

    #[tokio::test]
    async fn who_stopped_between_the_files_goes_on_although_it_has_judged_anew_meanwhile() {
        let (world, (key, trusted)) = (world(), key(1));
        let first = judged_anew(|_| ());
        world.fail_after(op::POLICIES_PUT_FILE, fault("PutObject", "Timeout", Kind::Unavailable));
        assert!(keep(&world, &first, Some(&key)).await.is_err());
        keep(&world, &first, None).await.unwrap();
        let anew = judged_anew(|manifest| manifest.evaluation = [("candidate_usd".into(), 1.0)].into());
        keep(&world, &anew, Some(&key)).await.unwrap();
        assert_eq!(world.manifest(&first.sha256).await.unwrap(), first.manifest);
        assert!(signed(&world, &first, &trusted).await, "what is there is what is signed");
    }

    #[tokio::test]
    async fn a_manifest_that_lets_the_policy_do_other_things_is_not_signed() {
        let (world, (key, trusted)) = (world(), key(1));
        let forged = judged_anew(|manifest| manifest.machines_per_action_max += 1);
        keep(&world, &forged, None).await.unwrap();
        let refused = keep(&world, &judged_anew(|_| ()), Some(&key)).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Conflict);
        assert!(!signed(&world, &forged, &trusted).await);
    }

    #[tokio::test]
    async fn a_promotion_whose_answer_was_lost_is_repeated_and_keeps_the_predecessor() {
        let world = world();
        promoted(&world, &other('a'), None).await.unwrap();
        world.fail_after(op::POLICIES_MOVE_POINTER, fault("PutObject", "Timeout", Kind::Unavailable));
        assert!(promoted(&world, &other('b'), None).await.is_err());
        let pointer = promoted(&world, &other('b'), None).await.unwrap();
        assert_eq!((pointer.serial, pointer.previous), (2, Some("a".repeat(64))));
        assert_eq!(world.pointer("p").await.unwrap().unwrap().0.serial, 2);
    }

    #[tokio::test]
    async fn of_two_promotions_over_the_same_incumbent_the_second_changes_nothing() {
        let world = world();
        promoted(&world, &other('a'), None).await.unwrap();
        let stands = world.pointer("p").await.unwrap();
        promote(&world, "p", &other('b'), stands.as_ref(), None).await.unwrap();
        let lost = promote(&world, "p", &other('c'), stands.as_ref(), None).await.unwrap_err();
        assert_eq!(lost.kind, Kind::Conflict);
        assert_eq!(world.pointer("p").await.unwrap().unwrap().0.sha256, "b".repeat(64));
    }

    #[tokio::test]
    async fn without_a_predecessor_there_is_no_way_back() {
        let world = world();
        assert_eq!(roll_back(&world, "p").await.unwrap_err().kind, Kind::NotFound);
        let pointer = promoted(&world, &other('a'), None).await.unwrap();
        assert_eq!(roll_back(&world, "p").await.unwrap_err().kind, Kind::NotFound);
        let itself = Pointer { previous: Some(pointer.sha256.clone()), ..pointer };
        world.overwrite_pointer("p", itself);
        assert_eq!(roll_back(&world, "p").await.unwrap_err().kind, Kind::NotFound);
    }
}
