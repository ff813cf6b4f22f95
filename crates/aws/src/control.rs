//! The control table: a pool's configuration, head, memory of missing capacity and suspects, and the stack's kill switch.

use aws_sdk_dynamodb::Client;
use contract::control::{Head, KillSwitch};
use contract::pool::PoolConfig;
use contract::record::{NoCapacity, Suspects};
use controller::ports::{Control, Kind, Port, PortError};
use serde::Serialize;

use crate::errors::failed;
use crate::tables::{Item, from_item, n, s, to_item};

/// The item with the configuration, as JSON: read by people, and refused as a whole if it is wrong.
pub(crate) const CONFIG: &str = "config";
/// The configuration's mode once more, beside its JSON, where a claim's condition can see it.
pub(crate) const MODE: &str = "mode";
/// The item with the head.
pub(crate) const HEAD: &str = "head";
/// The item with the memory of missing capacity.
const CAPACITY: &str = "capacity";
/// The item with the suspects.
const SUSPECTS: &str = "suspects";
/// The kill switch lies where no pool can have a name.
pub(crate) const SWITCH_POOL: &str = "*";
/// The item with the kill switch.
pub(crate) const SWITCH: &str = "switch";

/// The adapter of the control table.
#[derive(Clone, Debug)]
pub struct ControlTable {
    pub(crate) client: Client,
    pub(crate) table: String,
}

/// An item of a pool with a record's fields.
pub(crate) fn item<T: Serialize>(pool: &str, name: &str, record: &T) -> Port<Item> {
    let mut item = to_item("PutItem", record)?;
    item.insert("pool".into(), s(pool));
    item.insert("item".into(), s(name));
    Ok(item)
}

/// The head of a pool, by a consistent read; the default one before the first claim.
pub(crate) async fn read_head(client: &Client, table: &str, pool: &str) -> Port<Head> {
    let item = read(client, table, pool, HEAD).await?;
    item.map_or(Ok(Head::default()), |item| from_item("GetItem", item))
}

async fn read(client: &Client, table: &str, pool: &str, name: &str) -> Port<Option<Item>> {
    let call = client.get_item().table_name(table).key("pool", s(pool)).key("item", s(name)).consistent_read(true);
    Ok(call.send().await.map_err(failed("GetItem"))?.item)
}

impl ControlTable {
    /// The adapter of the table with this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    async fn read(&self, pool: &str, name: &str) -> Port<Option<Item>> {
        read(&self.client, &self.table, pool, name).await
    }

    async fn write(&self, item: Item) -> Port<()> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        call.send().await.map_err(failed("PutItem"))?;
        Ok(())
    }
}

impl Control for ControlTable {
    async fn config(&self, pool: &str) -> Port<PoolConfig> {
        let item = self.read(pool, CONFIG).await?;
        let item =
            item.ok_or_else(|| PortError::not_found("GetItem", format!("pool {pool:?} has no configuration")))?;
        let json = item.get("json").and_then(|json| json.as_s().ok());
        let json =
            json.ok_or_else(|| PortError::invalid("GetItem", format!("the item of pool {pool:?} has no json")))?;
        PoolConfig::from_json(json).map_err(|e| PortError::invalid("GetItem", e.to_string()))
    }

    async fn put_config(&self, config: &PoolConfig) -> Port<()> {
        let json = serde_json::to_string(config).map_err(|e| PortError::invalid("PutItem", e.to_string()))?;
        let item = [("pool", config.pool.as_str()), ("item", CONFIG), ("json", &json), (MODE, config.mode.name())]
            .map(|(k, v)| (k.into(), s(v)));
        self.write(item.into()).await
    }

    async fn head(&self, pool: &str) -> Port<Head> {
        read_head(&self.client, &self.table, pool).await
    }

    async fn no_capacity(&self, pool: &str) -> Port<NoCapacity> {
        let item = self.read(pool, CAPACITY).await?;
        item.map_or(Ok(NoCapacity::default()), |item| from_item("GetItem", item))
    }

    async fn put_no_capacity(&self, pool: &str, memory: &NoCapacity) -> Port<()> {
        self.write(item(pool, CAPACITY, memory)?).await
    }

    async fn suspects(&self, pool: &str) -> Port<Suspects> {
        let item = self.read(pool, SUSPECTS).await?;
        item.map_or(Ok(Suspects::default()), |item| from_item("GetItem", item))
    }

    async fn put_suspects(&self, pool: &str, suspects: &Suspects) -> Port<()> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item(pool, SUSPECTS, suspects)?))
            .condition_expression("attribute_not_exists(#v) OR #v = :before")
            .expression_attribute_names("#v", "version")
            .expression_attribute_values(":before", n(suspects.version.saturating_sub(1)));
        match call.send().await.map_err(failed("PutItem")) {
            Ok(_) => Ok(()),
            // It may have worked, its answer been lost, and the SDK's repetition met our own.
            Err(e) if e.kind == Kind::Conflict && self.suspects(pool).await? == *suspects => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn kill_switch(&self) -> Port<KillSwitch> {
        let item = self.read(SWITCH_POOL, SWITCH).await?;
        item.map_or(Ok(KillSwitch::default()), |item| from_item("GetItem", item))
    }

    async fn put_kill_switch(&self, switch: KillSwitch) -> Port<()> {
        self.write(item(SWITCH_POOL, SWITCH, &switch)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::AttributeValue;
    use contract::action::Action;

    #[test]
    fn items_are_flat_so_that_conditions_can_read_them() {
        let head = Head { generation: 3, next_allowed_ms: 9, last_action: Action::Stop(2, 1), last_action_ms: 8 };
        let of = item("p", HEAD, &head).unwrap();
        assert_eq!((&of["pool"], &of["item"]), (&s("p"), &s("head")));
        assert_eq!(of["generation"], AttributeValue::N("3".into()));
        assert_eq!(from_item::<Head>("GetItem", of).unwrap(), head);
        let of = item(SWITCH_POOL, SWITCH, &KillSwitch { engaged: true }).unwrap();
        assert_eq!(of["engaged"], AttributeValue::Bool(true));
    }

    #[test]
    fn the_kill_switch_lies_where_no_pool_can_be() {
        assert!(!contract::pool::is_pool_name(SWITCH_POOL));
    }
}
