//! What must be refused, tried from inside the cluster by short-lived pods of our own. A stranger, whom no policy names,
//! tries every address; for each there is a friend, by whose label a policy lets it in, so that a refusal is the policy's
//! and not a dead server's.

use super::asker::{Address, Asker, Words, image};
use super::{Row, Section, Seen, Site, unseen};
use crate::cluster::ClusterError;
use crate::model::{Finding, Verdict};

/// By the name whom a policy lets in: the addresses.
const FRIENDS: [(&str, &[Address]); 5] = [
    ("pgbouncer", &[("ai-platform-postgres", 5432, "")]),
    ("backend", &[("ai-platform-pgbouncer", 6432, ""), ("ai-platform-redis", 6379, "")]),
    (
        "inference",
        &[("ai-platform-auth", 80, ""), ("ai-platform-kafka", 9092, ""), ("ai-platform-rabbitmq", 5672, "")],
    ),
    ("kafka", &[("ai-platform-zookeeper", 2181, "")]),
    ("gateway", &[("ai-platform-backend", 80, "")]),
];

/// Plain text, by one whom the policies let in: to a service outside the mesh, and to two that are STRICT.
const SCRAPED: [Address; 3] = [
    ("ai-platform-backend", 80, "/metrics"),
    ("ai-platform-inference", 80, "/metrics"),
    ("ai-platform-decision", 80, "/metrics"),
];

pub async fn rows(site: &Site, seen: &Seen) -> Vec<Row> {
    let (policy, strict) =
        ("only whom a policy names gets through", "plain text to a STRICT service is refused");
    let image = match image(seen) {
        Ok(image) => image,
        Err(why) => {
            return vec![
                Row::new(Section::Refusals, &["X1"], unseen(policy, &why)),
                Row::new(Section::Refusals, &["I3"], unseen(strict, why)),
            ];
        }
    };
    let everything: Vec<Address> =
        FRIENDS.iter().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
    let stranger = probe(site, image, "mettle-stranger", "mettle-stranger", &everything);
    let friends = FRIENDS.iter().map(|(label, addresses)| async move {
        probe(site, image, &format!("mettle-as-{label}"), label, addresses).await
    });
    // What may scrape has Prometheus' name.
    let scraper = probe(site, image, "mettle-as-prometheus", "prometheus", &SCRAPED);
    let (stranger, friends, scraper) = tokio::join!(stranger, futures::future::join_all(friends), scraper);
    let friends: Result<Vec<Words>, ClusterError> = friends.into_iter().collect();
    let friends = friends.map(|all| all.into_iter().flatten().collect::<Words>());
    let finding = match (stranger, friends) {
        (Ok(stranger), Ok(friends)) => refused(policy, &everything, &stranger, &friends),
        (Err(why), _) | (_, Err(why)) => unseen(policy, why),
    };
    let plain = scraper.map_or_else(|why| unseen(strict, why), |words| plain(strict, &words));
    vec![Row::new(Section::Refusals, &["X1"], finding), Row::new(Section::Refusals, &["I3"], plain)]
}

fn refused(check: &str, addresses: &[Address], stranger: &Words, friends: &Words) -> Finding {
    let mut wrong = Vec::new();
    for (host, port, _) in addresses {
        let key = ((*host).to_owned(), *port);
        let (Some(stranger), Some(friend)) = (stranger.get(&key), friends.get(&key)) else {
            return unseen(check, format!("nothing was heard of {host}:{port}"));
        };
        // A name that is not found refuses everybody.
        if stranger == "refused: gaierror" || friend == "refused: gaierror" {
            return unseen(check, format!("{host} is no name"));
        }
        if !stranger.starts_with("refused") {
            wrong.push(format!("a stranger reaches {host}:{port}"));
        }
        if friend != "open" {
            wrong.push(format!("{host}:{port} is closed to whom a policy names: {friend}"));
        }
    }
    super::all_of(check, addresses.len(), "addresses, each open to a friend and closed to a stranger", wrong)
}

/// Proof that the asker is let in at all comes first: the service outside the mesh must answer it.
fn plain(check: &str, words: &Words) -> Finding {
    let word = |host: &str| words.get(&(host.to_owned(), 80)).map_or("silent", String::as_str);
    let [control, strict @ ..] = SCRAPED;
    if !word(control.0).contains(" 200") {
        return unseen(check, format!("{}, which takes plain text, answered {}", control.0, word(control.0)));
    }
    let answers: Vec<String> = strict.iter().map(|(host, ..)| format!("{host}: {}", word(host))).collect();
    let cut = |(host, ..): &Address| matches!(word(host), "closed" | "refused: ConnectionResetError");
    let silent = strict.iter().any(|(host, ..)| word(host) == "silent" || word(host).contains("gaierror"));
    let verdict = if strict.iter().all(cut) {
        Verdict::Pass
    } else if silent {
        Verdict::Inconclusive
    } else {
        Verdict::Fail
    };
    Finding::new(check, verdict, format!("{}; {} answered 200", answers.join(", "), control.0))
}

/// Outside of the mesh, known by its label only.
async fn probe(
    site: &Site,
    image: &str,
    name: &str,
    label: &str,
    to: &[Address],
) -> Result<Words, ClusterError> {
    Asker { name, label, account: None, image }.ask(site, to).await
}

#[cfg(test)]
mod tests {
    use super::super::asker::words;
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn a_stranger_who_gets_in_fails_and_so_does_a_door_that_is_closed_to_all() {
        let to = [("a", 1, "")];
        let timeout = "refused: TimeoutError";
        for (stranger, friend, verdict) in [
            (timeout, "open", Pass),
            ("open", "open", Fail),
            (timeout, timeout, Fail),
            ("refused: gaierror", "refused: gaierror", Inconclusive),
        ] {
            let (stranger, friend) = (words(&[("a", 1, stranger)]), words(&[("a", 1, friend)]));
            assert_eq!(refused("x", &to, &stranger, &friend).verdict, verdict, "{stranger:?}");
        }
        assert_eq!(refused("x", &to, &words(&[]), &words(&[])).verdict, Inconclusive);
        assert_eq!(refused("x", &[], &words(&[]), &words(&[])).verdict, Inconclusive);
    }

    #[test]
    fn strict_needs_a_control_that_answers() {
        let heard = |control: &'static str, strict: &'static str| {
            words(&[
                ("ai-platform-backend", 80, control),
                ("ai-platform-inference", 80, strict),
                ("ai-platform-decision", 80, "closed"),
            ])
        };
        assert_eq!(plain("x", &heard("HTTP/1.0 200 OK", "refused: ConnectionResetError")).verdict, Pass);
        assert_eq!(plain("x", &heard("HTTP/1.0 200 OK", "HTTP/1.0 200 OK")).verdict, Fail);
        assert_eq!(plain("x", &heard("refused: TimeoutError", "closed")).verdict, Inconclusive);
        assert_eq!(plain("x", &words(&[])).verdict, Inconclusive);
    }
}
