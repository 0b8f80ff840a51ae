//! Where RabbitMQ takes a message: a key goes to the queues that its bindings name, one that no binding names comes back
//! to the sender, and into the exchange of dead letters only the broker itself writes.
//!
//! What is sent is nobody's job: no key begins with `inference`, that route is the journeys'. Afterwards our messages are
//! taken away again where `audit.jobs` was empty before. Where it was not they stay, five small ones in a queue that nobody
//! consumes and that drops its oldest: looking for them among others' would count as a delivery of each, and a quorum queue
//! drops what was delivered too often.
//!
//! # Caveats
//! That a dead letter arrives is not shown: no client may write to its exchange. The broker's own table says where it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};

use super::{Row, Section, Seen, Site, unseen, within};
use crate::cluster::{Door, secret_text};
use crate::component::{Binding, bindings};
use crate::model::{Finding, Verdict};

const SERVICE: &str = "ai-platform-rabbitmq";
const PORT: u16 = 5672;
const SECRET: &str = "ai-platform-secrets";
const USER: &str = "ai_user";
const DEADLINE: Duration = Duration::from_secs(30);
const BINDINGS_DEADLINE: Duration = Duration::from_secs(10);
/// Messages a key.
const SENT: u32 = 5;
const TASKS: &str = "platform.tasks";
const DEAD: &str = "platform.dead";
const AUDIT_QUEUE: &str = "audit.jobs";
const QUEUES: [&str; 3] = [AUDIT_QUEUE, "dead.jobs", "inference.jobs"];
/// Its `x-max-length`: a full queue does not grow.
const AUDIT_MAX: u32 = 50_000;
const AUDITED: &str = "mettle.verify.audited";
const NOWHERE: &str = "mettle.verify.nowhere";
/// Exchange, key, queue: all that the stack binds, and nothing else may be.
const BOUND: [(&str, &str, &str); 3] =
    [(TASKS, "inference.#", "inference.jobs"), (TASKS, "#.audited", AUDIT_QUEUE), (DEAD, "#", "dead.jobs")];
const ROUTED: &str = "rabbitmq: a key reaches the queues that its bindings name, and no other";
const LETTERS: &str = "rabbitmq: dead letters have a queue, and only the broker sends them";

pub async fn rows(site: &Site, seen: &Seen) -> Vec<Row> {
    let (routed, letters) = match within(DEADLINE, look(site, seen)).await {
        Ok(looked) => (routed(&looked), letters(&looked)),
        Err(why) => (unseen(ROUTED, &why), unseen(LETTERS, why)),
    };
    let row = |finding| Row::new(Section::Members, &["K2/routing"], finding);
    vec![row(routed), row(letters)]
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It is in a queue.
    Taken,
    /// No queue wanted it.
    Returned,
    /// The sender may not.
    Forbidden,
    Unknown(String),
}

/// Queue → messages that wait in it.
type Depths = BTreeMap<&'static str, u32>;

struct Looked {
    bound: BTreeSet<Binding>,
    before: Depths,
    after: Depths,
    audited: Vec<Fate>,
    nowhere: Vec<Fate>,
    dead: Fate,
    /// Ours that were found and taken away again.
    cleared: u32,
}

async fn look(site: &Site, seen: &Seen) -> Result<Looked, String> {
    let secret = async |key| secret_text(&site.client, &site.namespace, SECRET, key).await;
    let password = secret("rabbitmq-password").await.map_err(|error| error.to_string())?;
    let cookie = secret("rabbitmq-erlang-cookie").await.map_err(|error| error.to_string())?;
    let pods = seen.addresses(&site.namespace, "rabbitmq");
    let bound = bindings(&site.dialer, &pods, &cookie, BINDINGS_DEADLINE).await;
    let bound = bound.map_err(|error| error.to_string())?;
    let door = Door::open(&site.client, &site.dialer, &site.namespace, SERVICE, PORT).await;
    let door = door.map_err(|error| error.to_string())?;
    let connection = connect(door.address, password).await?;
    let looked = exchange(&connection, bound).await;
    // What broke off is closed by the server, too.
    let _ = connection.close(200, "done".into()).await;
    looked
}

async fn connect(address: SocketAddr, password: String) -> Result<Connection, String> {
    // Not told what is wrong with it: with the password in it an address is not for messages.
    let mut uri: AMQPUri = format!("amqp://{USER}@{address}/%2f")
        .parse()
        .map_err(|_| format!("{address} cannot be connected to"))?;
    uri.authority.userinfo.password = password;
    let properties = ConnectionProperties::default().with_connection_name("mettle".into());
    Connection::connect_uri(uri, properties).await.map_err(|error| format!("no connection: {error}"))
}

async fn exchange(connection: &Connection, bound: BTreeSet<Binding>) -> Result<Looked, String> {
    let channel = confirming(connection).await?;
    let id: u64 = rand::random();
    let body = format!("mettle verify {id:016x}");
    let before = depths(&channel).await?;
    let (mut audited, mut nowhere) = (Vec::new(), Vec::new());
    for _ in 0..SENT {
        audited.push(publish(&channel, TASKS, AUDITED, &body).await);
        nowhere.push(publish(&channel, TASKS, NOWHERE, &body).await);
    }
    // A refusal closes the channel that it was asked on.
    let dead = publish(&confirming(connection).await?, DEAD, AUDITED, &body).await;
    let after = depths(&channel).await?;
    let cleared = if before[AUDIT_QUEUE] == 0 { clear(&channel, &body).await } else { 0 };
    Ok(Looked { bound, before, after, audited, nowhere, dead, cleared })
}

async fn confirming(connection: &Connection) -> Result<Channel, String> {
    let channel = connection.create_channel().await.map_err(|error| format!("no channel: {error}"))?;
    let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
    confirms.map_err(|error| format!("no confirmations: {error}"))?;
    Ok(channel)
}

async fn publish(channel: &Channel, exchange: &str, key: &str, body: &str) -> Fate {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_content_type("text/plain".into());
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await;
    let confirmed = match sent {
        Ok(sent) => sent.await,
        Err(error) => Err(error),
    };
    match confirmed {
        Ok(Confirmation::Ack(None)) => Fate::Taken,
        // Mandatory, and there is no queue: it comes back before it is acknowledged.
        Ok(Confirmation::Ack(Some(_))) => Fate::Returned,
        Ok(Confirmation::Nack(_)) => Fate::Unknown("a queue did not take it".to_owned()),
        Ok(Confirmation::NotRequested) => Fate::Unknown("nothing is confirmed".to_owned()),
        Err(error) if is_forbidden(&error) => Fate::Forbidden,
        Err(error) => Fate::Unknown(error.to_string()),
    }
}

fn is_forbidden(error: &lapin::Error) -> bool {
    let refused = AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == refused)
}

/// Passively: nothing is declared.
async fn depths(channel: &Channel) -> Result<Depths, String> {
    let mut depths = Depths::new();
    for name in QUEUES {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await;
        let queue = queue.map_err(|error| format!("queue {name}: {error}"))?;
        depths.insert(name, queue.message_count());
    }
    Ok(depths)
}

/// Takes ours from the head of the queue, and stops at the first that is not. How many it took: what cannot be taken stays,
/// and is told.
async fn clear(channel: &Channel, body: &str) -> u32 {
    let mut cleared = 0;
    while cleared < SENT {
        let got = channel.basic_get(AUDIT_QUEUE.into(), BasicGetOptions::default()).await;
        let Ok(Some(message)) = got else { break };
        if message.delivery.data != body.as_bytes() {
            let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            let _ = message.delivery.acker.nack(back).await;
            break;
        }
        if message.delivery.acker.ack(BasicAckOptions::default()).await.is_err() {
            break;
        }
        cleared += 1;
    }
    cleared
}

/// What an exchange lacks of the stack's bindings, and what it has besides.
fn misbound(bound: &BTreeSet<Binding>, exchange: &str) -> Vec<String> {
    let owned = |(from, key, to): (&str, &str, &str)| Binding {
        exchange: from.to_owned(),
        key: key.to_owned(),
        to: to.to_owned(),
    };
    let of = |all: BTreeSet<Binding>| -> BTreeSet<Binding> {
        all.into_iter().filter(|one| one.exchange == exchange).collect()
    };
    let (found, wanted) = (of(bound.clone()), of(BOUND.into_iter().map(owned).collect()));
    let lacks = wanted.difference(&found).map(|one| format!("there is no binding {one}"));
    let besides = found.difference(&wanted).map(|one| format!("there is also a binding {one}"));
    lacks.chain(besides).collect()
}

fn count(fates: &[Fate], of: &Fate) -> usize {
    fates.iter().filter(|fate| *fate == of).count()
}

fn routed(looked: &Looked) -> Finding {
    let grown = |queue: &str| i64::from(looked.after[queue]) - i64::from(looked.before[queue]);
    let fates = looked.audited.iter().chain(&looked.nowhere);
    if let Some(Fate::Unknown(why)) = fates.clone().find(|fate| matches!(fate, Fate::Unknown(_))) {
        return unseen(ROUTED, format!("what became of a message is not known: {why}"));
    }
    let before = looked.before[AUDIT_QUEUE];
    if before + SENT > AUDIT_MAX {
        return unseen(ROUTED, format!("{AUDIT_QUEUE} is full ({before} messages), and cannot grow"));
    }
    let (sent, ours) = (SENT as usize, i64::from(SENT));
    let (taken, returned) = (count(&looked.audited, &Fate::Taken), count(&looked.nowhere, &Fate::Returned));
    let mut wrong = misbound(&looked.bound, TASKS);
    if taken != sent {
        wrong.push(format!("{taken} of {sent} with key {AUDITED} were taken"));
    }
    if returned != sent {
        wrong.push(format!("{returned} of {sent} with key {NOWHERE} came back"));
    }
    if grown(AUDIT_QUEUE) < ours {
        wrong.push(format!("{AUDIT_QUEUE} grew by {}, not {ours}", grown(AUDIT_QUEUE)));
    }
    if !wrong.is_empty() {
        return Finding::new(ROUTED, Verdict::Fail, wrong.join("; "));
    }
    // Bound as it is, no other queue can have ours: it is somebody else's.
    let others = QUEUES.iter().find(|queue| {
        grown(queue) > if **queue == AUDIT_QUEUE { ours } else { 0 }
            || (**queue == "dead.jobs" && grown(queue) != 0)
    });
    if let Some(queue) = others {
        return unseen(ROUTED, format!("somebody else uses {queue}: it grew by {}", grown(queue)));
    }
    if before == 0 && looked.cleared != SENT {
        return unseen(
            ROUTED,
            format!("{} of our {sent} messages were found in {AUDIT_QUEUE}; the rest stays", looked.cleared),
        );
    }
    let stay = if before == 0 { String::new() } else { format!(", and stay behind {before} others") };
    let reason = format!(
        "{taken} of {sent} with key {AUDITED} are in {AUDIT_QUEUE}, none in {}{stay}; {returned} of {sent} with \
         key {NOWHERE} came back; {TASKS} has the stack's bindings only",
        QUEUES[1..].join(" or ")
    );
    Finding::new(ROUTED, Verdict::Pass, reason)
}

fn letters(looked: &Looked) -> Finding {
    let mut wrong = misbound(&looked.bound, DEAD);
    match &looked.dead {
        Fate::Forbidden => {}
        Fate::Taken | Fate::Returned => wrong.push(format!("{USER} may write to {DEAD}")),
        Fate::Unknown(why) if wrong.is_empty() => {
            return unseen(LETTERS, format!("what became of a message to {DEAD} is not known: {why}"));
        }
        Fate::Unknown(_) => {}
    }
    if !wrong.is_empty() {
        return Finding::new(LETTERS, Verdict::Fail, wrong.join("; "));
    }
    let reason = format!("{DEAD} leads every key to dead.jobs, and refuses {USER} (403)");
    Finding::new(LETTERS, Verdict::Pass, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    /// Everything as it should be, with what `change` makes of it.
    fn looked(change: impl FnOnce(&mut Looked)) -> Looked {
        let binding = |(exchange, key, to): (&str, &str, &str)| Binding {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            to: to.to_owned(),
        };
        let mut looked = Looked {
            bound: BOUND.into_iter().map(binding).collect(),
            before: QUEUES.into_iter().map(|queue| (queue, 0)).collect(),
            after: [(AUDIT_QUEUE, SENT), ("dead.jobs", 0), ("inference.jobs", 0)].into(),
            audited: vec![Fate::Taken; SENT as usize],
            nowhere: vec![Fate::Returned; SENT as usize],
            dead: Fate::Forbidden,
            cleared: SENT,
        };
        change(&mut looked);
        looked
    }

    #[test]
    fn every_key_goes_where_its_bindings_lead() {
        type Case = (fn(&mut Looked), Verdict, &'static str);
        let cases: [Case; 13] = [
            (|_| {}, Pass, "5 of 5 with key mettle.verify.audited are in audit.jobs, none in dead.jobs"),
            (|at| at.audited[2] = Fate::Returned, Fail, "4 of 5 with key mettle.verify.audited were taken"),
            (|at| at.audited[2] = Fate::Forbidden, Fail, "4 of 5 with key mettle.verify.audited were taken"),
            (|at| at.nowhere[0] = Fate::Taken, Fail, "4 of 5 with key mettle.verify.nowhere came back"),
            (|at| _ = at.after.insert(AUDIT_QUEUE, 4), Fail, "audit.jobs grew by 4, not 5"),
            (
                |at| drop(at.bound.pop_last()),
                Fail,
                "there is no binding platform.tasks: inference.# to inference.jobs",
            ),
            (
                |at| {
                    let also = Binding { exchange: TASKS.into(), key: "#".into(), to: "x".into() };
                    at.bound.insert(also);
                },
                Fail,
                "there is also a binding platform.tasks: # to x",
            ),
            (
                |at| at.audited[0] = Fate::Unknown("cut".into()),
                Inconclusive,
                "what became of a message is not known: cut",
            ),
            (
                |at| _ = at.after.insert(AUDIT_QUEUE, 6),
                Inconclusive,
                "somebody else uses audit.jobs: it grew by 6",
            ),
            (
                |at| _ = at.after.insert("dead.jobs", 1),
                Inconclusive,
                "somebody else uses dead.jobs: it grew by 1",
            ),
            (
                |at| _ = at.after.insert("inference.jobs", 1),
                Inconclusive,
                "somebody else uses inference.jobs",
            ),
            (|at| at.cleared = 3, Inconclusive, "3 of our 5 messages were found in audit.jobs"),
            (
                |at| _ = at.before.insert(AUDIT_QUEUE, 49_996),
                Inconclusive,
                "audit.jobs is full (49996 messages)",
            ),
        ];
        for (change, verdict, reason) in cases {
            let finding = routed(&looked(change));
            assert_eq!(finding.verdict, verdict, "{}", finding.reason);
            assert!(finding.reason.starts_with(reason), "{}", finding.reason);
        }
    }

    #[test]
    fn jobs_may_be_done_meanwhile_and_what_lies_behind_others_stays() {
        let jobs = looked(|at| _ = at.before.insert("inference.jobs", 7));
        assert_eq!(routed(&jobs).verdict, Pass);
        let behind = looked(|at| {
            at.before.insert(AUDIT_QUEUE, 9);
            at.after.insert(AUDIT_QUEUE, 14);
            at.cleared = 0;
        });
        let finding = routed(&behind);
        assert_eq!(finding.verdict, Pass);
        assert!(finding.reason.contains("stay behind 9 others"), "{}", finding.reason);
    }

    #[test]
    fn dead_letters_are_the_brokers_alone() {
        type Case = (fn(&mut Looked), Verdict, &'static str);
        let cases: [Case; 5] = [
            (|_| {}, Pass, "platform.dead leads every key to dead.jobs, and refuses ai_user (403)"),
            (|at| at.dead = Fate::Taken, Fail, "ai_user may write to platform.dead"),
            (|at| at.dead = Fate::Returned, Fail, "ai_user may write to platform.dead"),
            (|at| drop(at.bound.pop_first()), Fail, "there is no binding platform.dead: # to dead.jobs"),
            (
                |at| at.dead = Fate::Unknown("cut".into()),
                Inconclusive,
                "what became of a message to platform.dead is not known: cut",
            ),
        ];
        for (change, verdict, reason) in cases {
            let finding = letters(&looked(change));
            assert_eq!((finding.verdict, finding.reason.as_str()), (verdict, reason));
        }
    }
}
