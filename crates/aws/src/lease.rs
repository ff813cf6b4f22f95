//! Leases of improvement jobs. They lie in the control table under a key of their own, so that the trainer's role can be
//! held to that key: it may write nothing else of the table.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use contract::control::Lease;
use controller::ports::{Kind, Leases, Port};

use crate::control::{ControlTable, item};
use crate::errors::failed;
use crate::tables::{Item, from_item, n, s};

/// The item of a lease.
const LEASE: &str = "lease";

/// The partition of a pool's lease: no pool can have that name.
fn partition(pool: &str) -> String {
    format!("lease#{pool}")
}

/// The item that stood in the way of a conditional write.
fn in_the_way<R>(error: &SdkError<PutItemError, R>) -> Option<Item> {
    match error.as_service_error()? {
        PutItemError::ConditionalCheckFailedException(refused) => refused.item().cloned(),
        _ => None,
    }
}

impl Leases for ControlTable {
    async fn take(&self, pool: &str, lease: &Lease, now_ms: u64) -> Port<Option<Lease>> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item(&partition(pool), LEASE, lease)?));
        let call = call
            .condition_expression("attribute_not_exists(#owner) OR #owner = :owner OR until_ms <= :now")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", s(&lease.owner))
            .expression_attribute_values(":now", n(now_ms))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = call.send().await else { return Ok(None) };
        match in_the_way(&error) {
            Some(item) => from_item("PutItem", item).map(Some),
            None => Err(failed("PutItem")(error)),
        }
    }

    async fn give_back(&self, pool: &str, owner: &str) -> Port<()> {
        let call = self.client.delete_item().table_name(&self.table);
        let call = call
            .key("pool", s(partition(pool)))
            .key("item", s(LEASE))
            .condition_expression("#owner = :owner")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", s(owner));
        match call.send().await.map_err(failed("DeleteItem")) {
            // it ran out and is somebody else's, or nobody's
            Err(e) if e.kind == Kind::Conflict => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pool_lies_where_leases_do() {
        assert!(!contract::pool::is_pool_name(&partition("demo")));
    }
}
