//! The fake EC2: launches idempotent by token, describes by tag, and machines that tests add or change by hand.

use std::collections::BTreeMap;

use contract::plan::{LaunchPlan, TAG_DECISION, TAG_MANAGED, TAG_MANAGED_VALUE, TAG_POOL, TAG_SIZE, TAG_STACK};
use controller::ports::{Cloud, CloudInstance, Kind, Port, PortError};

use crate::builders::STACK;
use crate::fate::Happened;
use crate::op;
use crate::world::{Machine, State, World};

impl Machine {
    fn has(&self, tag: &str, value: &str) -> bool {
        self.tags.get(tag).is_some_and(|v| v == value)
    }

    /// Whether it is one of the executor's own stack.
    pub fn is_of_stack(&self) -> bool {
        self.has(TAG_MANAGED, TAG_MANAGED_VALUE) && self.has(TAG_STACK, STACK)
    }

    /// Whether it is one of this pool of the executor's own stack.
    pub fn is_of(&self, pool: &str) -> bool {
        self.is_of_stack() && self.has(TAG_POOL, pool)
    }

    fn number(&self, tag: &str) -> Option<u64> {
        self.tags.get(tag)?.parse().ok()
    }

    fn seen(&self) -> CloudInstance {
        CloudInstance {
            instance_id: self.instance_id.clone(),
            alive: self.shown_alive.unwrap_or(self.alive),
            size: self.number(TAG_SIZE).map(|size| size as usize),
            decision: self.number(TAG_DECISION),
            launched_ms: self.launched_ms,
        }
    }
}

impl State {
    fn add_machine(&mut self, template: &str, tags: BTreeMap<String, String>, token: Option<String>) -> String {
        let instance_id = format!("i-{:017x}", self.machines.len() + 1);
        self.machines.push(Machine {
            instance_id: instance_id.clone(),
            tags,
            alive: true,
            visible: true,
            launched_ms: self.now_ms,
            launch_template: template.to_owned(),
            client_token: token,
            protected: false,
            shown_alive: None,
        });
        instance_id
    }

    fn seen(&self, ids: &[String]) -> Vec<CloudInstance> {
        self.machines.iter().filter(|m| ids.contains(&m.instance_id)).map(Machine::seen).collect()
    }

    /// What EC2 answers to a token it has seen.
    fn replay(&self, earlier: &LaunchPlan, ids: &[String], plan: &LaunchPlan) -> Port<Vec<CloudInstance>> {
        if earlier != plan {
            return Err(refused("IdempotentParameterMismatch", Kind::Invalid));
        }
        let seen = self.seen(ids);
        match seen.iter().all(|m| m.alive) {
            true => Ok(seen),
            false => Err(refused("IdempotentInstanceTerminated", Kind::NotFound)),
        }
    }

    fn launch(&mut self, plan: &LaunchPlan) -> Port<Vec<CloudInstance>> {
        if let Some((earlier, ids)) = self.launches.get(&plan.client_token) {
            return self.replay(earlier, ids, plan);
        }
        let place = (plan.instance_type.clone(), plan.subnet.clone());
        if self.sizes_without_capacity.contains(&plan.size) || self.places_without_capacity.contains(&place) {
            return Err(refused("InsufficientInstanceCapacity", Kind::NoCapacity));
        }
        let fewer = u32::from(std::mem::take(&mut self.fewer_next));
        let ids: Vec<String> = (0..plan.count.saturating_sub(fewer))
            .map(|_| self.add_machine(&plan.launch_template, plan.tags.clone(), Some(plan.client_token.clone())))
            .collect();
        self.launches.insert(plan.client_token.clone(), (plan.clone(), ids.clone()));
        self.happened.push(Happened::Launched { plan: Box::new(plan.clone()), instance_ids: ids.clone() });
        Ok(self.seen(&ids))
    }

    /// As IAM and EC2 have it: one machine without our tags, or a protected one, and the whole call is refused. A machine
    /// that EC2 does not show yet is one that it does not know, which the real adapter takes for terminated.
    fn terminate(&mut self, ids: &[String]) -> Port<()> {
        self.happened.push(Happened::TerminationAsked(ids.to_vec()));
        let named = |m: &&Machine| ids.contains(&m.instance_id);
        if let Some(foreign) = self.machines.iter().filter(named).find(|m| !m.is_of_stack()) {
            return Err(denied("UnauthorizedOperation", format!("{} does not carry our tags", foreign.instance_id)));
        }
        if let Some(protected) = self.machines.iter().filter(named).find(|m| m.alive && m.protected) {
            return Err(denied("OperationNotPermitted", format!("{} is protected", protected.instance_id)));
        }
        for machine in self.machines.iter_mut().filter(|m| m.visible && ids.contains(&m.instance_id)) {
            if machine.alive {
                self.happened.push(Happened::Terminated(machine.instance_id.clone()));
            }
            machine.alive = false;
            machine.visible = false;
        }
        Ok(())
    }
}

fn denied(code: &str, message: String) -> PortError {
    PortError { operation: op::TERMINATE, code: code.into(), message, kind: Kind::Denied }
}

fn refused(code: &str, kind: Kind) -> PortError {
    PortError { operation: op::LAUNCH, code: code.into(), message: "the fake EC2 says so".into(), kind }
}

impl Cloud for World {
    fn stack(&self) -> &str {
        STACK
    }

    async fn describe(&self, pool: &str) -> Port<Vec<CloudInstance>> {
        self.call(op::DESCRIBE, |s| {
            let hides = std::mem::take(&mut s.hides_recorded_next);
            let is_recorded =
                |m: &Machine| s.instances.values().any(|r| r.terminated_ms.is_none() && r.instance_id == m.instance_id);
            let shown = s.machines.iter().filter(|m| m.visible && m.is_of(pool) && !(hides && is_recorded(m)));
            Ok(shown.map(Machine::seen).collect())
        })
        .await
    }

    async fn pool_of(&self, instance_id: &str) -> Port<Option<String>> {
        self.call(op::POOL_OF, |s| {
            let machine =
                s.machines.iter().find(|m| m.visible && m.alive && m.is_of_stack() && m.instance_id == instance_id);
            Ok(machine.and_then(|m| m.tags.get(TAG_POOL).cloned()))
        })
        .await
    }

    async fn terminated(&self, instance_ids: &[String]) -> Port<Vec<String>> {
        self.call(op::TERMINATED, |s| {
            // one that a person stopped is shown, and so is a dead one while describe is behind
            let ended = |m: &&Machine| !m.alive && !m.visible && instance_ids.contains(&m.instance_id);
            Ok(s.machines.iter().filter(ended).map(|m| m.instance_id.clone()).collect())
        })
        .await
    }

    async fn launch(&self, plan: &LaunchPlan) -> Port<Vec<CloudInstance>> {
        self.call(op::LAUNCH, |s| s.launch(plan)).await
    }

    async fn terminate(&self, instance_ids: &[String]) -> Port<()> {
        self.call(op::TERMINATE, |s| s.terminate(instance_ids)).await
    }
}

impl World {
    /// Adds a running machine with any tags, and returns its id: one launched by hand, by somebody else, or retagged.
    pub fn add_machine(&self, tags: BTreeMap<String, String>) -> String {
        self.lock().add_machine("by-hand", tags, None)
    }

    /// Changes a machine behind everybody's back: a spot loss, a retag, a describe that does not know it yet.
    pub fn change_machine(&self, instance_id: &str, change: impl FnOnce(&mut Machine)) {
        let mut state = self.lock();
        let machine = state.machines.iter_mut().find(|m| m.instance_id == instance_id);
        change(machine.expect("a machine with that id was added before"));
    }
}
