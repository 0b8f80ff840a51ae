//! The writes to one store by operation id: four bytes each, nothing is copied.

use crate::model::{OpId, Operation, OperationOutcome, Store};

/// Positions in the operations, ascending by id.
pub(super) struct Writes<'a> {
    operations: &'a [Operation],
    order: Vec<u32>,
    /// Acknowledged writes without an id.
    pub nameless: u64,
}

/// All attempts at one write together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub id: OpId,
    /// Ok when any attempt was, else indeterminate when any was, else failed.
    pub outcome: OperationOutcome,
    pub sent_us: u64,
    /// When the first acknowledgement had arrived.
    pub acknowledged_us: Option<u64>,
}

impl<'a> Writes<'a> {
    pub fn of(operations: &'a [Operation], store: Store) -> Self {
        let (mut order, mut nameless) = (Vec::new(), 0);
        for (position, operation) in operations.iter().enumerate() {
            if !operation.writes.contains(store) {
                continue;
            }
            match (operation.id, u32::try_from(position)) {
                (Some(_), Ok(position)) => order.push(position),
                _ => nameless += u64::from(operation.outcome == OperationOutcome::Ok),
            }
        }
        order.sort_unstable_by_key(|position| operations[*position as usize].id);
        Self { operations, order, nameless }
    }

    /// Ascending by id, each once.
    pub fn iter(&self) -> impl Iterator<Item = Write> {
        let same = |a: &u32, b: &u32| self.operation(*a).id == self.operation(*b).id;
        self.order.chunk_by(same).filter_map(|attempts| self.write(attempts))
    }

    pub fn get(&self, id: OpId) -> Option<Write> {
        let from = self.order.partition_point(|position| self.operation(*position).id < Some(id));
        let rest = &self.order[from..];
        let count = rest.iter().take_while(|position| self.operation(**position).id == Some(id)).count();
        self.write(&rest[..count])
    }

    fn operation(&self, position: u32) -> &'a Operation {
        &self.operations[position as usize]
    }

    fn write(&self, attempts: &[u32]) -> Option<Write> {
        let attempts = attempts.iter().map(|position| self.operation(*position));
        let each = attempts.filter_map(|attempt| {
            let acknowledged = attempt.outcome == OperationOutcome::Ok;
            Some(Write {
                id: attempt.id?,
                outcome: attempt.outcome,
                sent_us: attempt.sent_us,
                acknowledged_us: acknowledged.then_some(attempt.done_us),
            })
        });
        each.reduce(|all, one| Write {
            id: all.id,
            outcome: better_known(all.outcome, one.outcome),
            sent_us: all.sent_us.min(one.sent_us),
            acknowledged_us: all.acknowledged_us.into_iter().chain(one.acknowledged_us).min(),
        })
    }
}

fn better_known(a: OperationOutcome, b: OperationOutcome) -> OperationOutcome {
    use OperationOutcome::{Failed, Indeterminate, Ok};
    match (a, b) {
        (Ok, _) | (_, Ok) => Ok,
        (Indeterminate, _) | (_, Indeterminate) => Indeterminate,
        (Failed, Failed) => Failed,
    }
}
