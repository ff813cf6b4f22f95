//! What must hold for every move of a pool's pointer by the promoter: I11.

use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::Pointer;
use controller::ports::PolicyStore;

use super::{Checked, Scene, ensure};
use crate::now;
use crate::policies::verified;

/// I11: each move is one step from what stood there, and names another policy. All files of a policy that passes the
/// evaluator's checks were there before, its signature, too; but for one whose files people bring after the pointer.
pub(super) fn moved(scene: Scene<'_>, before: Option<&Pointer>, after: &Pointer) -> Checked {
    let last = before.map_or(0, |pointer| pointer.serial);
    ensure(after.serial == last + 1, "I11", || format!("pointer number {} follows {last}", after.serial))?;
    let stood = before.map(|pointer| &pointer.sha256);
    ensure(after.previous.as_ref() == stood, "I11", || format!("{after:?} forgets {stood:?}, which it replaces"))?;
    ensure(Some(&after.sha256) != stood, "I11", || format!("{after:?} is its own predecessor"))?;
    let by_hand = scene.meddling.promotions.lacks_files(&after.sha256);
    let Some(package) = verified(&after.sha256).filter(|_| !by_hand) else { return Ok(()) };
    let outside = scene.world.outside();
    for (name, bytes) in package.files() {
        let stored = now(outside.file(&after.sha256, &name, POLICY_BYTES_MAX));
        ensure(stored.is_ok_and(|stored| stored == bytes), "I11", || {
            format!("the pointer names {} before its {name} is there", after.sha256)
        })?;
    }
    Ok(())
}
