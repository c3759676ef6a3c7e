//! The segments that are there, by place and by number.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::ids::Sequence;
use crate::format::segment::Stream;
use crate::store::account::Account;
use crate::store::segment::Segment;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Oldest first: rising by LSN and by sequence.
    pub(super) log: VecDeque<Arc<Segment>>,
    pub(super) others: BTreeMap<Sequence, Arc<Segment>>,
}

impl Table {
    pub(super) fn enter(&mut self, segment: Arc<Segment>) {
        match segment.header.stream {
            Stream::Log => self.log.push_back(segment),
            Stream::Folds | Stream::Survivors | Stream::Map => {
                self.others.insert(segment.header.sequence, segment);
            }
        }
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<&Arc<Segment>> {
        match self.log.binary_search_by_key(&sequence, |segment| segment.header.sequence) {
            Ok(at) => self.log.get(at),
            Err(_) => self.others.get(&sequence),
        }
    }

    /// Changes the account of a segment, if it is there.
    pub(super) fn account(&self, sequence: Sequence, change: impl FnOnce(&Account)) {
        if let Some(segment) = self.get(sequence) {
            change(&segment.account);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.log.len() + self.others.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.log.iter().chain(self.others.values())
    }
}
