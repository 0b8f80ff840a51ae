//! RabbitMQ's bindings as a node has them: from which exchange which keys go to which queue. The protocol that clients
//! speak cannot list them, so they are read as the quorum queues are.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use erl_dist::term::{Binary, List, Term, Tuple};

use super::erlang::{Node, PORT};
use super::rabbitmq::text;
use crate::cluster::{ClusterError, Dialer, PodAddress};

const HOST: &str = "/";

/// One way that a message may go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    pub exchange: String,
    pub key: String,
    /// A queue's name, or `exchange NAME`.
    pub to: String,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} to {}", self.exchange, self.key, self.to)
    }
}

/// The bindings of virtual host `/`, without those that each queue has by itself to the exchange without a name. All nodes
/// have the same table: the first that answers is asked.
///
/// # Errors
/// When none answers, or a binding cannot be understood: a table with a gap is none.
pub async fn bindings(
    dialer: &Dialer,
    pods: &[PodAddress],
    cookie: &str,
    deadline: Duration,
) -> Result<BTreeSet<Binding>, ClusterError> {
    let what = "read the bindings of rabbitmq";
    let mut last = ClusterError::state(what, "there is no pod");
    for pod in pods {
        let what = format!("{what} from {}", pod.name);
        let asking = async {
            let mut node = Node::open(dialer.dial(pod, PORT, deadline).await?, cookie, &what).await?;
            let host = Binary { bytes: HOST.as_bytes().to_vec() }.into();
            let table = node.call("rabbit_binding", "list", vec![host], &what).await?;
            read(&table).ok_or_else(|| ClusterError::state(what.clone(), "its table is not understood"))
        };
        last = match tokio::time::timeout(deadline, asking).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error,
            Err(_) => ClusterError::Deadline { what: what.clone(), seconds: deadline.as_secs() },
        };
    }
    Err(last)
}

/// `{binding, Source, Key, Destination, Arguments}` each.
fn read(table: &Term) -> Option<BTreeSet<Binding>> {
    let Term::List(List { elements }) = table else { return None };
    let mut found = BTreeSet::new();
    for row in elements {
        let Term::Tuple(Tuple { elements }) = row else { return None };
        let [_, from, Term::Binary(key), to, _] = elements.as_slice() else { return None };
        let ((_, exchange), (kind, to)) = (resource(from)?, resource(to)?);
        let to = if kind == "queue" { to } else { format!("{kind} {to}") };
        if !exchange.is_empty() {
            found.insert(Binding { exchange, key: text(&key.bytes), to });
        }
    }
    Some(found)
}

/// Kind and name of `{resource, Host, Kind, Name}`.
fn resource(term: &Term) -> Option<(String, String)> {
    let Term::Tuple(Tuple { elements }) = term else { return None };
    let [_, _, Term::Atom(kind), Term::Binary(name)] = elements.as_slice() else { return None };
    Some((kind.name.clone(), text(&name.bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::erlang::atom;
    use super::*;

    fn binary(text: &str) -> Term {
        Binary { bytes: text.as_bytes().to_vec() }.into()
    }

    fn tuple(elements: Vec<Term>) -> Term {
        Tuple::from(elements).into()
    }

    fn binding(exchange: &str, key: &str, kind: &str, to: &str) -> Term {
        let resource =
            |kind: &str, name: &str| tuple(vec![atom("resource"), binary("/"), atom(kind), binary(name)]);
        let none: Term = List::from(vec![]).into();
        tuple(vec![atom("binding"), resource("exchange", exchange), binary(key), resource(kind, to), none])
    }

    #[test]
    fn the_table_is_read_whole_or_not_at_all() {
        let list = |rows: Vec<Term>| -> Term { List::from(rows).into() };
        let found = read(&list(vec![
            binding("", "audit.jobs", "queue", "audit.jobs"),
            binding("platform.tasks", "#.audited", "queue", "audit.jobs"),
            binding("platform.tasks", "#", "exchange", "copies"),
        ]));
        let found: Vec<String> = found.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["platform.tasks: # to exchange copies", "platform.tasks: #.audited to audit.jobs"]
        );
        assert_eq!(read(&list(vec![])), Some(BTreeSet::new()));
        assert_eq!(read(&atom("undefined")), None);
        assert_eq!(read(&list(vec![binding("a", "b", "queue", "c"), atom("?")])), None);
    }
}
