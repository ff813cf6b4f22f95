//! The store of policies in a bucket: files written once, one pointer a pool moved by compare-and-swap.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use contract::limits::MANIFEST_BYTES_MAX;
use contract::manifest::{Pointer, pointer_key, policy_key, run_key};
use controller::ports::{Kind, PolicyPublisher, PolicyStore, Port, PortError, Runs};
use serde::de::DeserializeOwned;

use crate::errors::{chain, failed};

/// A policy's manifest, beside its files.
const MANIFEST: &str = "manifest.json";

/// The adapter of the bucket with the policies.
#[derive(Clone, Debug)]
pub struct PolicyBucket {
    client: Client,
    bucket: String,
}

/// An object's bytes and its tag.
struct Object {
    bytes: Vec<u8>,
    etag: Option<String>,
}

impl PolicyBucket {
    /// The adapter of the bucket with this name.
    pub fn new(config: &SdkConfig, bucket: impl Into<String>) -> Self {
        Self { client: Client::new(config), bucket: bucket.into() }
    }

    /// Reads an object, and no more than `bytes_max` bytes of it.
    async fn read(&self, key: &str, bytes_max: usize) -> Port<Object> {
        let call = self.client.get_object().bucket(&self.bucket).key(key);
        let answer = call.send().await.map_err(failed("GetObject"))?;
        if answer.content_length.is_some_and(|length| length > bytes_max as i64) {
            return Err(too_large(key, bytes_max));
        }
        Ok(Object { etag: answer.e_tag, bytes: collect(answer.body, key, bytes_max).await? })
    }

    async fn read_json<T: DeserializeOwned>(&self, key: &str) -> Port<(T, Option<String>)> {
        let object = self.read(key, MANIFEST_BYTES_MAX).await?;
        let value = serde_json::from_slice(&object.bytes);
        let value = value.map_err(|e| PortError::invalid("GetObject", format!("{key} is not readable: {e}")))?;
        Ok((value, object.etag))
    }

    fn write(&self, key: &str, bytes: Vec<u8>) -> PutObjectFluentBuilder {
        self.client.put_object().bucket(&self.bucket).key(key).content_type(kind(key)).body(ByteStream::from(bytes))
    }

    /// Whether the object at `key` holds exactly these bytes.
    async fn holds(&self, key: &str, bytes: &[u8]) -> Port<bool> {
        match self.read(key, bytes.len()).await {
            Ok(object) => Ok(object.bytes == bytes),
            Err(e) if e.code == TOO_LARGE => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// What a browser that opens the object is to make of it.
fn kind(key: &str) -> &'static str {
    match key.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => "application/json",
        Some("html") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Our word for an object above its cap.
const TOO_LARGE: &str = "TooLarge";

fn too_large(key: &str, bytes_max: usize) -> PortError {
    let message = format!("{key} is larger than {bytes_max} bytes");
    PortError { operation: "GetObject", code: TOO_LARGE.into(), message, kind: Kind::Invalid }
}

/// Collects a body chunk by chunk, so that a wrong or missing length cannot make us hold more than the cap.
async fn collect(mut body: ByteStream, key: &str, bytes_max: usize) -> Port<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| PortError {
            operation: "GetObject",
            code: "BodyCut".into(),
            message: format!("{key}: {}", chain(&e)),
            kind: Kind::Unavailable,
        })?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(too_large(key, bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

impl PolicyStore for PolicyBucket {
    /// Without If-None-Match: the object has 200 bytes, "not modified" costs the same request and round, and whoever
    /// remembered tags would have to remember pointers with them. The policy behind it is loaded once, by its hash.
    async fn pointer(&self, pool: &str) -> Port<Option<(Pointer, String)>> {
        let key = pointer_key(pool);
        match self.read_json(&key).await {
            Ok((pointer, Some(etag))) => Ok(Some((pointer, etag))),
            Ok((_, None)) => Err(PortError::invalid("GetObject", format!("{key} has no ETag"))),
            // A missing bucket is somebody's mistake; a missing object is a pool without a policy.
            Err(e) if e.kind == Kind::NotFound && e.code != "NoSuchBucket" => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn manifest(&self, sha256: &str) -> Port<Vec<u8>> {
        Ok(self.read(&policy_key(sha256, MANIFEST), MANIFEST_BYTES_MAX).await?.bytes)
    }

    async fn file(&self, sha256: &str, name: &str, bytes_max: usize) -> Port<Vec<u8>> {
        Ok(self.read(&policy_key(sha256, name), bytes_max).await?.bytes)
    }
}

impl PolicyPublisher for PolicyBucket {
    async fn put_file(&self, sha256: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        let key = policy_key(sha256, name);
        let call = self.write(&key, bytes.clone()).if_none_match("*");
        match call.send().await.map_err(failed("PutObject")) {
            Ok(_) => Ok(()),
            Err(e) if e.kind == Kind::Conflict => match self.holds(&key, &bytes).await? {
                true => Ok(()),
                false => Err(PortError::conflict("PutObject", format!("{key} is there with other bytes"))),
            },
            Err(e) => Err(e),
        }
    }

    async fn move_pointer(&self, pool: &str, pointer: &Pointer, tag: Option<&str>) -> Port<()> {
        let key = pointer_key(pool);
        let bytes = serde_json::to_vec(pointer).map_err(|e| PortError::invalid("PutObject", e.to_string()))?;
        let call = match tag {
            Some(tag) => self.write(&key, bytes).if_match(tag),
            None => self.write(&key, bytes).if_none_match("*"),
        };
        match call.send().await.map_err(failed("PutObject")) {
            Ok(_) => Ok(()),
            // NoSuchKey is S3's answer when the object to match is gone: the pointer is not the one with the tag.
            Err(e) if e.kind == Kind::Conflict || e.code == "NoSuchKey" => match self.pointer(pool).await {
                // The move worked, its answer was lost, and the SDK's repetition met our own pointer.
                Ok(Some((stands, _))) if stands == *pointer => Ok(()),
                _ => Err(PortError::conflict("PutObject", format!("{key} was moved by somebody else: {}", e.message))),
            },
            Err(e) => Err(e),
        }
    }
}

impl Runs for PolicyBucket {
    async fn put_run_file(&self, run: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        self.write(&run_key(run, name), bytes).send().await.map_err(failed("PutObject"))?;
        Ok(())
    }

    async fn run_file(&self, run: &str, name: &str, bytes_max: usize) -> Port<Option<Vec<u8>>> {
        match self.read(&run_key(run, name), bytes_max).await {
            Ok(object) => Ok(Some(object.bytes)),
            Err(e) if e.kind == Kind::NotFound && e.code != "NoSuchBucket" => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_opens_as_a_page() {
        let kinds =
            ["policies/1/report.html", "policies/1/manifest.json", "policies/1/policy.onnx", "checkpoint"].map(kind);
        assert_eq!(&kinds[..2], ["text/html; charset=utf-8", "application/json"]);
        assert!(kinds[2..].iter().all(|kind| *kind == "application/octet-stream"));
    }
}
