//! EC2's notice that it takes a spot machine back: its worker is told at once, and nobody counts on it any more.

use contract::limits::SPOT_NOTICE_S;
use contract::record::{Drain, DrainReason};
use controller::ports::{Cloud, Control, Decisions, Instances, Port, PortError, Tasks};
use serde::Deserialize;

use crate::execute::Executor;

/// What EventBridge calls the notice.
pub const DETAIL_TYPE: &str = "EC2 Spot Instance Interruption Warning";

/// EC2's ids have 19 characters at present.
const ID_LEN_MAX: usize = 32;

/// The notice of one interruption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// EC2's id.
    pub instance_id: String,
    /// When it was given, milliseconds since the epoch.
    pub at_ms: u64,
}

#[derive(Deserialize)]
struct RawNotice {
    time: jiff::Timestamp,
    detail: RawDetail,
}

#[derive(Deserialize)]
struct RawDetail {
    #[serde(rename = "instance-id")]
    instance_id: String,
}

impl Notice {
    /// Reads EventBridge's event.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn from_json(event: serde_json::Value) -> Result<Self, String> {
        let raw: RawNotice = serde_json::from_value(event)
            .map_err(|e| format!("the event is no notice of an interruption: {e}; mend the event rule"))?;
        let at_ms =
            u64::try_from(raw.time.as_millisecond()).map_err(|_| "the notice is from before 1970".to_owned())?;
        let instance_id = raw.detail.instance_id;
        let is_id = instance_id.strip_prefix("i-").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !is_id || instance_id.len() > ID_LEN_MAX {
            return Err(format!("{instance_id:?} is no instance id; mend the event rule"));
        }
        Ok(Self { instance_id, at_ms })
    }
}

impl<T, I, D, C, K> Executor<T, I, D, C, K>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    K: Cloud,
{
    /// Marks the machine, if it is one of ours; returns its pool.
    ///
    /// # Errors
    /// If something cannot be read or written, or the machine has no record yet: then the notice may be sent again.
    pub async fn interrupted(&self, notice: &Notice) -> Port<Option<String>> {
        let id = notice.instance_id.as_str();
        let Some(pool) = self.ports.cloud.pool_of(id).await? else { return Ok(None) };
        let records = self.ports.instances.alive(&pool).await?;
        let record = records.iter().find(|r| r.instance_id == id);
        let record = record.ok_or_else(|| PortError::not_found("interruption", format!("{id} has no record yet")))?;
        let (until_ms, why) = (notice.at_ms + SPOT_NOTICE_S * 1000, DrainReason::Interruption);
        let drain = Drain { until_ms, why, since_ms: Some(notice.at_ms) };
        self.ports.instances.mark_draining(record, drain).await?;
        Ok(Some(pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_notice_names_the_machine_and_its_time() {
        let event = json!({"version": "0", "id": "1", "detail-type": DETAIL_TYPE, "source": "aws.ec2", "account": "1",
            "time": "2026-01-31T00:00:10Z", "region": "eu-central-1", "resources": [],
            "detail": {"instance-id": "i-1", "instance-action": "terminate"}});
        let at_ms = 1_769_817_610_000;
        assert_eq!(Notice::from_json(event).unwrap(), Notice { instance_id: "i-1".into(), at_ms });
        let bare = json!({"detail-type": DETAIL_TYPE, "time": "2026-01-31T00:00:10Z"});
        assert!(Notice::from_json(bare).unwrap_err().contains("mend the event rule"));
        for bad in ["", "j-1", "i-1; reboot", &format!("i-{}", "0".repeat(40))] {
            let event = json!({"time": "2026-01-31T00:00:10Z", "detail": {"instance-id": bad}});
            assert!(Notice::from_json(event).unwrap_err().contains("no instance id"), "{bad}");
        }
    }
}
