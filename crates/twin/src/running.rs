//! The tasks that run, in groups: tasks that need the same and start together on one machine end together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::job::Ranks;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// One group. The groups of a machine form a doubly linked list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub ranks: Ranks,
    pub machine: u32,
    pub start_ms: u64,
    next: u32,
    previous: u32,
}

/// All groups, and the order in which they end. An interrupted group keeps its slot, emptied, until its end is due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    groups: Vec<Group>,
    unused: Vec<u32>,
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    /// For each machine, the slot of its latest group.
    heads: Vec<u32>,
    tasks: u32,
}

impl Running {
    pub fn reset(&mut self) {
        self.groups.clear();
        self.unused.clear();
        self.ends.clear();
        self.heads.clear();
        self.tasks = 0;
    }

    pub fn tasks(&self) -> u32 {
        self.tasks
    }

    /// Begins a group on a machine that lasts for the time `span_ms`.
    pub fn start(&mut self, ranks: Ranks, machine: u32, span_ms: Range<u64>) {
        debug_assert!(ranks.len() > 0 && span_ms.start < span_ms.end);
        let next = self.head(machine);
        let slot = self.store(Group { ranks, machine, start_ms: span_ms.start, next, previous: NONE });
        if next != NONE {
            self.groups[next as usize].previous = slot;
        }
        self.heads[machine as usize] = slot;
        self.ends.push(Reverse((span_ms.end, slot)));
        self.tasks += ranks.len();
    }

    fn head(&mut self, machine: u32) -> u32 {
        let machine = machine as usize;
        if machine >= self.heads.len() {
            self.heads.resize(machine + 1, NONE);
        }
        self.heads[machine]
    }

    fn store(&mut self, group: Group) -> u32 {
        if let Some(slot) = self.unused.pop() {
            self.groups[slot as usize] = group;
            return slot;
        }
        self.groups.push(group);
        self.groups.len() as u32 - 1
    }

    /// When the next group ends.
    pub fn next_end_ms(&mut self) -> Option<u64> {
        while let Some(Reverse((at_ms, slot))) = self.ends.peek().copied() {
            if self.groups[slot as usize].ranks.len() > 0 {
                return Some(at_ms);
            }
            self.ends.pop();
            self.unused.push(slot);
        }
        None
    }

    /// Takes out a group that ends at `now_ms`, if there is one left.
    pub fn end(&mut self, now_ms: u64) -> Option<Group> {
        if self.next_end_ms() != Some(now_ms) {
            return None;
        }
        let Reverse((_, slot)) = self.ends.pop().expect("it was there");
        let group = self.groups[slot as usize];
        self.unlink(&group);
        self.unused.push(slot);
        self.tasks -= group.ranks.len();
        Some(group)
    }

    /// Takes out one of the groups of a machine, interrupted, if there is one left.
    pub fn interrupt(&mut self, machine: u32) -> Option<Group> {
        let head = self.head(machine);
        if head == NONE {
            return None;
        }
        let group = self.groups[head as usize];
        self.unlink(&group);
        self.groups[head as usize].ranks.end = group.ranks.first;
        self.tasks -= group.ranks.len();
        Some(group)
    }

    fn unlink(&mut self, group: &Group) {
        if group.next != NONE {
            self.groups[group.next as usize].previous = group.previous;
        }
        match group.previous {
            NONE => self.heads[group.machine as usize] = group.next,
            previous => self.groups[previous as usize].next = group.next,
        }
    }
}
