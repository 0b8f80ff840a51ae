//! Histories as a correct store would give them, and the same with anomalies planted: the checker finds every one that
//! was planted and none besides.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Found, compare};
use crate::model::OperationOutcome::{Failed, Indeterminate, Ok as Done};
use crate::model::{LedgerTotals, ListName, OpId, Operation, OperationOutcome, Seen, Store};

/// One request as it is drawn: when it is sent after the one before, how long it takes, and when in that time it has
/// its effect, in hundredths.
#[derive(Debug, Clone, Copy)]
struct Draw {
    list: u8,
    gap_us: u64,
    takes_us: u64,
    point: u64,
    kind: DrawKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrawKind {
    Append(OperationOutcome),
    /// Indeterminate, and yet it happened: perhaps after its user had given up.
    Late,
    Read,
}

/// Sequential users wait for every answer; others send whenever they like.
fn draws(sequential: bool) -> impl Strategy<Value = Vec<Draw>> {
    let kind = proptest::sample::select(vec![
        DrawKind::Append(Done),
        DrawKind::Append(Done),
        DrawKind::Append(Done),
        DrawKind::Append(Failed),
        DrawKind::Append(Indeterminate),
        DrawKind::Late,
        DrawKind::Read,
        DrawKind::Read,
        DrawKind::Read,
    ]);
    let one = (0..3_u8, 1..300_u64, 2..400_u64, 1..100_u64, kind).prop_map(
        move |(list, gap_us, takes_us, point, kind)| {
            let gap_us = if sequential { gap_us + 400 } else { gap_us };
            Draw { list, gap_us, takes_us, point, kind }
        },
    );
    proptest::collection::vec(one, 1..80)
}

fn any_draws() -> impl Strategy<Value = Vec<Draw>> {
    prop_oneof![draws(true), draws(false)]
}

#[derive(Debug, Clone)]
struct Append {
    id: OpId,
    list: u8,
    sent_us: u64,
    done_us: u64,
    outcome: OperationOutcome,
    /// When it had its effect, if it had one.
    effect_us: Option<u64>,
}

#[derive(Debug, Clone)]
struct Read {
    list: u8,
    sent_us: u64,
    done_us: u64,
    saw: Vec<OpId>,
}

/// A history in the open: what each read saw in full, and the final lists.
#[derive(Debug, Clone)]
struct Story {
    appends: Vec<Append>,
    reads: Vec<Read>,
    last: BTreeMap<u8, Vec<OpId>>,
}

impl Story {
    /// What a store does that never errs: each append at its moment, each read all that had happened by its own.
    fn correct(draws: &[Draw]) -> Self {
        let (mut appends, mut reads, mut now_us) = (Vec::new(), Vec::new(), 0);
        for (number, draw) in draws.iter().enumerate() {
            now_us += draw.gap_us;
            let (sent_us, done_us) = (now_us, now_us + draw.takes_us);
            // Moments differ, so that the final order is the order of moments. Never at the ends of the interval.
            let within = sent_us * 1000 + draw.takes_us * 10 * draw.point + number as u64 % 10;
            let append = |outcome, effect_us| Append {
                id: OpId::new(&format!("r1-{number}")),
                list: draw.list,
                sent_us,
                done_us,
                outcome,
                effect_us,
            };
            match draw.kind {
                DrawKind::Append(Done) => appends.push(append(Done, Some(within))),
                DrawKind::Append(outcome) => appends.push(append(outcome, None)),
                DrawKind::Late => appends.push(append(Indeterminate, Some(within + draw.takes_us * 1500))),
                DrawKind::Read => reads.push((draw.list, sent_us, done_us, within)),
            }
        }
        appends.sort_by_key(|append| append.effect_us);
        let mut last: BTreeMap<u8, Vec<OpId>> = BTreeMap::new();
        for append in appends.iter().filter(|append| append.effect_us.is_some()) {
            last.entry(append.list).or_default().push(append.id);
        }
        let saw = |list: u8, at: u64| {
            let there = appends.iter().filter(move |append| append.list == list);
            there
                .filter(move |append| append.effect_us.is_some_and(|effect| effect < at))
                .map(|append| append.id)
        };
        let reads = reads.into_iter().map(|(list, sent_us, done_us, at)| {
            let saw = saw(list, at).collect();
            Read { list, sent_us, done_us, saw }
        });
        let reads = reads.collect();
        Self { appends, reads, last }
    }

    fn append(&self, id: OpId) -> &Append {
        self.appends.iter().find(|append| append.id == id).expect("it was drawn")
    }

    /// Acknowledged before `sent_us`.
    fn precedes(&self, id: OpId, sent_us: u64) -> bool {
        let append = self.append(id);
        append.outcome == Done && append.done_us < sent_us
    }

    /// As the load records it: in the order in which they were done, reads as differences.
    fn operations(&self) -> Vec<Operation> {
        let blank = |sent_us, done_us, outcome| Operation {
            id: None,
            step: "session.step".into(),
            writes: None.into(),
            reads: None,
            intended_us: sent_us,
            sent_us,
            done_us,
            outcome,
            error: None,
            status: None,
            degraded: false,
            seen: None,
        };
        let appends = self.appends.iter().map(|append| Operation {
            id: Some(append.id),
            writes: Store::Redis.into(),
            ..blank(append.sent_us, append.done_us, append.outcome)
        });
        let mut reads: Vec<&Read> = self.reads.iter().collect();
        reads.sort_by_key(|read| read.done_us);
        let mut before: BTreeMap<u8, &[OpId]> = BTreeMap::new();
        let reads = reads.into_iter().map(|read| {
            let last = before.insert(read.list, &read.saw).unwrap_or_default();
            let seen = Seen::since(name(read.list), last, &read.saw);
            Operation {
                reads: Some(Store::Redis),
                seen: Some(Box::new(seen)),
                ..blank(read.sent_us, read.done_us, Done)
            }
        });
        let mut operations: Vec<Operation> = appends.chain(reads).collect();
        operations.sort_by_key(|operation| operation.done_us);
        operations
    }

    fn totals(&self) -> LedgerTotals {
        let lists = self.last.iter().map(|(list, elements)| (name(*list), elements.clone()));
        compare(&self.operations(), Store::Redis, &Found::of_lists(lists.collect()))
    }
}

fn name(list: u8) -> ListName {
    ListName::new(&format!("r1-u{list}"))
}

/// Every anomaly by its definition, one by one, without any of the checker's short cuts.
fn by_definition(story: &Story) -> [u64; 3] {
    let none = Vec::new();
    let last = |list: u8| story.last.get(&list).unwrap_or(&none);
    let stale = story.reads.iter().filter(|read| {
        let lacks = |id: &&OpId| story.precedes(**id, read.sent_us) && !read.saw.contains(id);
        last(read.list).iter().any(|id| lacks(&id))
    });
    let dirty = story.reads.iter().filter(|read| !last(read.list).starts_with(&read.saw));
    let reordered = story.last.values().flat_map(|elements| {
        let late = move |(place, id): &(usize, &OpId)| {
            let first = elements.iter().position(|other| other == *id) == Some(*place);
            let behind = elements[place + 1..].iter().filter(|other| !elements[..*place].contains(other));
            let sent_us = story.append(**id).sent_us;
            first && behind.into_iter().any(|other| other != *id && story.precedes(*other, sent_us))
        };
        elements.iter().enumerate().filter(late).collect::<Vec<_>>()
    });
    [stale.count() as u64, dirty.count() as u64, reordered.count() as u64]
}

fn anomalies(totals: &LedgerTotals) -> [u64; 6] {
    let t = totals;
    [t.lost, t.duplicated, t.phantom, t.stale_reads, t.dirty_reads, t.reordered]
}

/// One of what there is to choose from; none when there is nothing.
fn choose<T: Copy>(of: &[T], by: usize) -> Option<T> {
    of.get(by.checked_rem(of.len())?).copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_correct_store_has_no_anomaly(draws in any_draws()) {
        let story = Story::correct(&draws);
        let totals = story.totals();
        prop_assert_eq!(anomalies(&totals), [0; 6], "{:?}", totals.examples);
        prop_assert_eq!(totals.reads, story.reads.len() as u64);
    }

    #[test]
    fn a_read_of_the_past_is_stale(draws in any_draws(), by in 0..1000_usize, cut in 0..1000_usize) {
        let mut story = Story::correct(&draws);
        let old: Vec<(usize, usize)> = story.reads.iter().enumerate().flat_map(|(index, read)| {
            let before = read.saw.iter().enumerate().filter(|(_, id)| story.precedes(**id, read.sent_us));
            before.map(|(place, _)| (index, place)).collect::<Vec<_>>()
        }).collect();
        let Some((read, place)) = choose(&old, by) else { return Ok(()) };
        let read = &mut story.reads[read];
        read.saw.truncate(cut % (place + 1));
        prop_assert_eq!(anomalies(&story.totals()), [0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_read_of_what_never_came_is_dirty(draws in any_draws(), by in 0..1000_usize, known in any::<bool>()) {
        let mut story = Story::correct(&draws);
        let gone = story.appends.iter().find(|append| append.effect_us.is_none()).map(|append| append.id);
        let ghost = gone.filter(|_| known).unwrap_or(OpId::new("r1-999999"));
        let reads: Vec<usize> = (0..story.reads.len()).collect();
        let Some(read) = choose(&reads, by) else { return Ok(()) };
        story.reads[read].saw.push(ghost);
        prop_assert_eq!(anomalies(&story.totals()), [0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn a_write_that_vanishes_is_lost_and_dirties_those_who_saw_it(draws in any_draws(), by in 0..1000_usize) {
        let mut story = Story::correct(&draws);
        let acknowledged: Vec<OpId> =
            story.appends.iter().filter(|append| append.outcome == Done).map(|append| append.id).collect();
        let Some(lost) = choose(&acknowledged, by) else { return Ok(()) };
        let saw = story.reads.iter().filter(|read| read.saw.contains(&lost)).count() as u64;
        story.last.values_mut().for_each(|elements| elements.retain(|id| *id != lost));
        prop_assert_eq!(anomalies(&story.totals()), [1, 0, 0, 0, saw, 0]);
    }

    #[test]
    fn a_copy_is_duplicated_and_nothing_else(draws in any_draws(), by in 0..1000_usize) {
        let mut story = Story::correct(&draws);
        let there: Vec<(u8, OpId)> =
            story.last.iter().flat_map(|(list, ids)| ids.iter().map(|id| (*list, *id))).collect();
        let Some((list, twice)) = choose(&there, by) else { return Ok(()) };
        story.last.entry(list).or_default().push(twice);
        prop_assert_eq!(anomalies(&story.totals()), [0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn an_older_write_behind_a_newer_one_is_seen(draws in any_draws(), by in 0..1000_usize) {
        let mut story = Story::correct(&draws);
        story.reads.clear();
        let pairs: Vec<(u8, usize, usize)> = story.last.iter().flat_map(|(list, ids)| {
            let pairs = (0..ids.len()).flat_map(|a| (a + 1..ids.len()).map(move |b| (a, b)));
            let ordered = pairs.filter(|(a, b)| story.precedes(ids[*a], story.append(ids[*b]).sent_us));
            ordered.map(|(a, b)| (*list, a, b)).collect::<Vec<_>>()
        }).collect();
        let Some((list, a, b)) = choose(&pairs, by) else { return Ok(()) };
        let ids = story.last.entry(list).or_default();
        let older = ids.remove(a);
        ids.insert(b, older);
        let over = story.last[&list][a..b].iter();
        let over = over.filter(|id| story.precedes(older, story.append(**id).sent_us)).count() as u64;
        prop_assert!(over > 0);
        prop_assert_eq!(anomalies(&story.totals()), [0, 0, 0, 0, 0, over]);
    }

    /// Anything at all: what reads saw and what is there in the end are shuffled at random.
    #[test]
    fn the_checker_says_what_the_definitions_say(
        draws in any_draws(),
        edits in proptest::collection::vec((0..5_u8, 0..1000_usize, 0..1000_usize), 0..12),
    ) {
        let mut story = Story::correct(&draws);
        for (kind, at, place) in edits {
            let reads = story.reads.len();
            let some = choose(&story.appends.iter().map(|append| append.id).collect::<Vec<_>>(), place);
            let list = if kind < 3 {
                story.reads.get_mut(at.checked_rem(reads).unwrap_or(0)).map(|read| &mut read.saw)
            } else {
                story.last.get_mut(&((at % 3) as u8))
            };
            let (Some(list), Some(some)) = (list, some) else { continue };
            let length = list.len();
            match kind {
                0 => list.truncate(place % (length + 1)),
                1 | 3 => list.insert(place % (length + 1), some),
                _ if length > 1 => list.swap(at % length, place % length),
                _ => {}
            }
        }
        let [.., stale, dirty, reordered] = anomalies(&story.totals());
        prop_assert_eq!([stale, dirty, reordered], by_definition(&story));
    }

    #[test]
    fn objects_that_are_read_by_id(
        rows in proptest::collection::vec((0..3_u8, any::<bool>(), any::<bool>(), 0..20_u64), 1..40),
    ) {
        let (mut operations, mut there, mut expected) = (Vec::new(), Vec::new(), [0, 0]);
        for (number, (outcome, kept, saw, wait_us)) in rows.into_iter().enumerate() {
            let id = OpId::new(&format!("r1-{number}"));
            let outcome = [Done, Failed, Indeterminate][outcome as usize];
            let done_us = number as u64 * 100 + 10;
            let write = Operation {
                id: Some(id),
                step: "j.write".into(),
                writes: Store::Postgres.into(),
                reads: None,
                intended_us: done_us - 10,
                sent_us: done_us - 10,
                done_us,
                outcome,
                error: None,
                status: None,
                degraded: false,
                seen: None,
            };
            let sent_us = done_us - 10 + wait_us;
            let outcome_of_read = if saw { Done } else { Failed };
            let status = Some(if saw { 200 } else { 404 });
            operations.push(Operation {
                step: "j.read".into(),
                writes: None.into(),
                reads: Some(Store::Postgres),
                sent_us,
                done_us: sent_us + 5,
                outcome: outcome_of_read,
                status,
                ..write.clone()
            });
            operations.push(write);
            if kept {
                there.push(id);
            }
            expected[0] += u64::from(!saw && kept && outcome == Done && sent_us > done_us);
            expected[1] += u64::from(saw && !kept);
        }
        let totals = compare(&operations, Store::Postgres, &Found::of_ids(there));
        prop_assert_eq!([totals.stale_reads, totals.dirty_reads], expected);
        prop_assert_eq!((totals.reads, totals.reordered), (operations.len() as u64 / 2, 0));
    }
}
