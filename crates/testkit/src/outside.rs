//! The fakes of the outside metrics and of the policy store.

use contract::limits::MANIFEST_BYTES_MAX;
use contract::manifest::{Pointer, pointer_key, policy_key};
use contract::pool::MetricSource;
use contract::schema::sha256_hex;
use controller::ports::{Metrics, Point, PolicyPublisher, PolicyStore, Port, PortError};

use crate::fate::Happened;
use crate::op;
use crate::world::{State, World};

impl Metrics for World {
    async fn series(
        &self,
        pool: &str,
        sources: &[MetricSource],
        window_ms: u64,
        to_ms: u64,
    ) -> Port<Vec<Option<Vec<Point>>>> {
        self.call(op::METRICS_SERIES, |s| {
            let inside = |at_ms: u64| at_ms <= to_ms && at_ms + window_ms > to_ms;
            let points = |source: &MetricSource| {
                // The time first: a long run has many points, and comparing sources is slow.
                let of = s.metrics.iter().filter(|(p, from, point)| inside(point.at_ms) && p == pool && from == source);
                Some(of.map(|(_, _, point)| *point).collect())
            };
            Ok(sources.iter().map(points).collect())
        })
        .await
    }
}

/// The tag of a pointer: like an ETag, a hash of the object's bytes.
fn tag(pointer: &Pointer) -> String {
    sha256_hex(&serde_json::to_vec(pointer).expect("a pointer is plain data"))
}

impl State {
    fn object(&self, operation: &'static str, sha256: &str, name: &str, bytes_max: usize) -> Port<Vec<u8>> {
        let key = (sha256.to_owned(), name.to_owned());
        let object = self.files.get(&key).ok_or_else(|| PortError::not_found(operation, policy_key(sha256, name)))?;
        match object.len() <= bytes_max {
            true => Ok(object.clone()),
            false => Err(PortError::invalid(operation, format!("{} bytes are above {bytes_max}", object.len()))),
        }
    }

    fn put_object(&mut self, sha256: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        let object = self.files.entry((sha256.to_owned(), name.to_owned())).or_insert_with(|| bytes.clone());
        match *object == bytes {
            true => Ok(()),
            false => Err(PortError::conflict(op::POLICIES_PUT_FILE, policy_key(sha256, name))),
        }
    }
}

impl PolicyStore for World {
    async fn pointer(&self, pool: &str) -> Port<Option<(Pointer, String)>> {
        self.call(op::POLICIES_POINTER, |s| Ok(s.pointers.get(pool).map(|p| (p.clone(), tag(p))))).await
    }

    async fn manifest(&self, sha256: &str) -> Port<Vec<u8>> {
        self.call(op::POLICIES_MANIFEST, |s| {
            s.object(op::POLICIES_MANIFEST, sha256, "manifest.json", MANIFEST_BYTES_MAX)
        })
        .await
    }

    async fn file(&self, sha256: &str, name: &str, bytes_max: usize) -> Port<Vec<u8>> {
        self.call(op::POLICIES_FILE, |s| s.object(op::POLICIES_FILE, sha256, name, bytes_max)).await
    }
}

impl PolicyPublisher for World {
    async fn put_file(&self, sha256: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        self.call(op::POLICIES_PUT_FILE, |s| s.put_object(sha256, name, bytes.clone())).await
    }

    async fn move_pointer(&self, pool: &str, pointer: &Pointer, expected: Option<&str>) -> Port<()> {
        self.call(op::POLICIES_MOVE_POINTER, |s| {
            let current = s.pointers.get(pool);
            // The same move again is no error, as with the real adapter, which cannot tell it from a lost answer.
            if current.map(tag).as_deref() != expected && current != Some(pointer) {
                return Err(PortError::conflict(op::POLICIES_MOVE_POINTER, pointer_key(pool)));
            }
            let before = s.pointers.insert(pool.to_owned(), pointer.clone());
            if before.as_ref() != Some(pointer) {
                s.happened.push(Happened::PointerMoved { pool: pool.to_owned(), before, after: pointer.clone() });
            }
            Ok(())
        })
        .await
    }
}
