//! EC2, as far as a fleet needs it: describe our machines, launch what a plan says, terminate exact ids.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::describe_instances::builders::DescribeInstancesFluentBuilder;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, Instance, InstanceStateName, InstanceType, LaunchTemplateSpecification, ResourceType, Tag, TagSpecification,
};
use contract::limits::MACHINES_MAX;
use contract::plan::{LaunchPlan, TAG_DECISION, TAG_MANAGED, TAG_MANAGED_VALUE, TAG_POOL, TAG_SIZE, TAG_STACK};
use controller::ports::{Cloud, CloudInstance, Kind, Port, PortError};

use crate::errors::failed;

/// Values of one filter; EC2's maximum.
const FILTER_VALUES_MAX: usize = 200;
/// Machines of one page; EC2's maximum.
const PAGE_ROWS: i32 = 1000;
/// The template's version that launches use. CloudFormation makes a new version of a template that it changes and never moves
/// the default one, whose image the executor's role no longer allows.
const TEMPLATE_VERSION: &str = "$Latest";
/// States that describe asks for: all but terminated.
const STATES: [&str; 5] = ["pending", "running", "stopping", "shutting-down", "stopped"];

/// States of a machine that does not come back.
const ENDED: [&str; 2] = ["shutting-down", "terminated"];

/// The adapter of EC2, for the machines of one stack.
#[derive(Clone, Debug)]
pub struct Ec2 {
    client: Client,
    stack: String,
}

fn filter(name: impl Into<String>, values: &[&str]) -> Filter {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

fn tag<'a>(machine: &'a Instance, key: &str) -> Option<&'a str> {
    machine.tags().iter().find(|tag| tag.key() == Some(key))?.value()
}

/// The pool of a machine of this stack. The filters say so already; a machine of somebody else must not be taken for ours
/// because a filter was ignored.
fn pool_of<'a>(machine: &'a Instance, stack: &str) -> Option<&'a str> {
    let ours = tag(machine, TAG_MANAGED) == Some(TAG_MANAGED_VALUE) && tag(machine, TAG_STACK) == Some(stack);
    tag(machine, TAG_POOL).filter(|_| ours)
}

fn state(machine: &Instance) -> Option<&InstanceStateName> {
    machine.state()?.name()
}

/// A machine as the port wants it; none without an id.
fn seen(machine: &Instance) -> Option<CloudInstance> {
    let launched_ms = machine.launch_time().and_then(|t| t.to_millis().ok()).and_then(|ms| u64::try_from(ms).ok());
    Some(CloudInstance {
        instance_id: machine.instance_id()?.to_owned(),
        alive: matches!(state(machine), Some(InstanceStateName::Pending | InstanceStateName::Running)),
        size: tag(machine, TAG_SIZE).and_then(|size| size.parse().ok()),
        decision: tag(machine, TAG_DECISION).and_then(|tick| tick.parse().ok()),
        launched_ms: launched_ms.unwrap_or_default(),
    })
}

impl Ec2 {
    /// The adapter for this configuration and the machines of the stack of this name.
    pub fn new(config: &SdkConfig, stack: impl Into<String>) -> Self {
        Self { client: Client::new(config), stack: stack.into() }
    }

    fn describe_ours(&self) -> DescribeInstancesFluentBuilder {
        self.client
            .describe_instances()
            .filters(filter(format!("tag:{TAG_MANAGED}"), &[TAG_MANAGED_VALUE]))
            .filters(filter(format!("tag:{TAG_STACK}"), &[&self.stack]))
    }

    fn describe_pool(&self, pool: &str) -> DescribeInstancesFluentBuilder {
        self.describe_ours()
            .filters(filter(format!("tag:{TAG_POOL}"), &[pool]))
            .filters(filter("instance-state-name", &STATES))
            .max_results(PAGE_ROWS)
    }

    fn run(&self, plan: &LaunchPlan, count: i32) -> RunInstancesFluentBuilder {
        let template = LaunchTemplateSpecification::builder()
            .launch_template_name(&plan.launch_template)
            .version(TEMPLATE_VERSION)
            .build();
        self.client
            .run_instances()
            .launch_template(template)
            // some machines are better than none
            .min_count(1)
            .max_count(count)
            .client_token(&plan.client_token)
            .tag_specifications(tags(&plan.tags))
            .set_subnet_id(plan.subnet.clone())
            .set_instance_type(plan.instance_type.as_deref().map(InstanceType::from))
    }

    /// Of so many machines as one filter takes, those that are on their way out or terminated.
    async fn terminated_of(&self, instance_ids: &[String]) -> Port<Vec<String>> {
        let ids: Vec<&str> = instance_ids.iter().map(String::as_str).collect();
        let mut call = self.client.describe_instances();
        for filter in [filter("instance-id", &ids), filter("instance-state-name", &ENDED)] {
            call = call.filters(filter);
        }
        let answer = call.send().await.map_err(failed("DescribeInstances"))?;
        let ended = |m: &&Instance| state(m).is_some_and(|state| ENDED.contains(&state.as_str()));
        let machines = answer.reservations().iter().flat_map(|r| r.instances()).filter(ended);
        let asked = |id: &&str| ids.contains(id);
        Ok(machines.filter_map(|m| m.instance_id()).filter(asked).map(str::to_owned).collect())
    }

    async fn terminate_all(&self, instance_ids: &[String]) -> Port<()> {
        let call = self.client.terminate_instances().set_instance_ids(Some(instance_ids.to_vec()));
        call.send().await.map_err(failed("TerminateInstances"))?;
        Ok(())
    }
}

fn tags(tags: &BTreeMap<String, String>) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    TagSpecification::builder().resource_type(ResourceType::Instance).set_tags(Some(tags)).build()
}

/// A machine that EC2 no longer knows is a machine that is terminated.
fn gone_is_done(result: Port<()>) -> Port<()> {
    match result {
        Err(e) if e.kind == Kind::NotFound => Ok(()),
        other => other,
    }
}

impl Cloud for Ec2 {
    fn stack(&self) -> &str {
        &self.stack
    }

    async fn describe(&self, pool: &str) -> Port<Vec<CloudInstance>> {
        let mut pages = self.describe_pool(pool).into_paginator().send();
        let mut machines = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("DescribeInstances"))?;
            let of_page = page.reservations().iter().flat_map(|r| r.instances());
            let ours = of_page.filter(|m| pool_of(m, &self.stack) == Some(pool));
            let there = ours.filter(|m| state(m) != Some(&InstanceStateName::Terminated));
            machines.extend(there.filter_map(seen));
            if machines.len() > MACHINES_MAX {
                let message = format!("pool {pool:?} has more than {MACHINES_MAX} machines");
                return Err(PortError::invalid("DescribeInstances", message));
            }
        }
        Ok(machines)
    }

    async fn pool_of(&self, instance_id: &str) -> Port<Option<String>> {
        let call = self
            .describe_ours()
            .filters(filter("instance-id", &[instance_id]))
            .filters(filter("instance-state-name", &["pending", "running"]));
        let answer = call.send().await.map_err(failed("DescribeInstances"))?;
        let mut machines = answer.reservations().iter().flat_map(|r| r.instances());
        let found = machines.find(|m| m.instance_id() == Some(instance_id));
        Ok(found.and_then(|m| pool_of(m, &self.stack)).map(str::to_owned))
    }

    async fn terminated(&self, instance_ids: &[String]) -> Port<Vec<String>> {
        let mut terminated = Vec::new();
        for ids in instance_ids.chunks(FILTER_VALUES_MAX) {
            terminated.extend(self.terminated_of(ids).await?);
        }
        Ok(terminated)
    }

    async fn launch(&self, plan: &LaunchPlan) -> Port<Vec<CloudInstance>> {
        let count = i32::try_from(plan.count)
            .map_err(|_| PortError::invalid("RunInstances", format!("{} machines in one launch", plan.count)))?;
        let answer = self.run(plan, count).send().await.map_err(failed("RunInstances"))?;
        let planned = |machine: CloudInstance| CloudInstance {
            size: Some(plan.size),
            decision: plan.tags.get(TAG_DECISION).and_then(|tick| tick.parse().ok()),
            ..machine
        };
        Ok(answer.instances().iter().filter_map(seen).map(planned).collect())
    }

    async fn terminate(&self, instance_ids: &[String]) -> Port<()> {
        if instance_ids.is_empty() {
            return Ok(());
        }
        match self.terminate_all(instance_ids).await {
            // EC2 refuses the whole call for one unknown id, so that the others go one by one.
            Err(e) if e.kind == Kind::NotFound && instance_ids.len() > 1 => {
                for id in instance_ids {
                    gone_is_done(self.terminate_all(std::slice::from_ref(id)).await)?;
                }
                Ok(())
            }
            result => gone_is_done(result),
        }
    }
}
