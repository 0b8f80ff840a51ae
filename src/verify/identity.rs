//! Who calls counts by the caller's certificate: of two pods that differ in their service account only, inference and
//! decision answer the one that their AuthorizationPolicy names, and refuse the other. Both are in the mesh and bear the
//! gateway's label, so that the network policies let both in, and TLS between the proxies takes both.

use super::asker::{Address, Asker, Words, image};
use super::{Row, Section, Seen, Site, all_of, unseen};
use crate::model::Finding;

const CHECK: &str = "a workload that a service does not know is refused by it (403)";
/// The network policies let it in to both.
const LABEL: &str = "gateway";
/// Service accounts: one that both policies name, and one that none does.
const KNOWN: &str = "ai-platform-gateway";
const UNKNOWN: &str = "ai-platform-frontend";
/// What the services themselves answer without a log-in.
const TO: [Address; 2] =
    [("ai-platform-inference", 80, "/metrics"), ("ai-platform-decision", 80, "/metrics")];

pub async fn row(site: &Site, seen: &Seen) -> Row {
    let finding = match image(seen) {
        Ok(image) => asked(site, image).await,
        Err(why) => unseen(CHECK, why),
    };
    Row::new(Section::Refusals, &["X5/refused"], finding)
}

async fn asked(site: &Site, image: &str) -> Finding {
    let known = Asker { name: "mettle-known", label: LABEL, account: Some(KNOWN), image };
    let unknown = Asker { name: "mettle-unknown", label: LABEL, account: Some(UNKNOWN), image };
    match tokio::join!(known.ask(site, &TO), unknown.ask(site, &TO)) {
        (Ok(known), Ok(unknown)) => judge(&known, &unknown),
        (Err(why), _) | (_, Err(why)) => unseen(CHECK, why),
    }
}

/// A service that answers nobody refuses nobody, and who got no answer at all was not refused for who it is.
fn judge(known: &Words, unknown: &Words) -> Finding {
    let word = |words: &Words, host: &str| words.get(&(host.to_owned(), 80)).cloned();
    let (mut wrong, mut said) = (Vec::new(), Vec::new());
    for (host, ..) in TO {
        let (Some(known), Some(unknown)) = (word(known, host), word(unknown, host)) else {
            return unseen(CHECK, format!("nothing was heard of {host}"));
        };
        if status(&known) != Some(200) {
            return unseen(CHECK, format!("{host} answers {KNOWN}, which its policy names: {known}"));
        }
        match status(&unknown) {
            None => return unseen(CHECK, format!("{host} did not answer {UNKNOWN} at all: {unknown}")),
            Some(403) => {}
            Some(_) => {
                wrong.push(format!("{host} answers {UNKNOWN}, whom its policy does not name: {unknown}"))
            }
        }
        said.push(format!("{host} {KNOWN}: {known}, {UNKNOWN}: {unknown}"));
    }
    all_of(CHECK, TO.len(), &format!("services: {}", said.join("; ")), wrong)
}

/// Of `HTTP/1.1 403 Forbidden`.
fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::asker::words;
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn only_a_403_beside_a_200_is_a_refusal_of_who_one_is() {
        let (open, refused, cut) = ("HTTP/1.1 200 OK", "HTTP/1.1 403 Forbidden", "refused: TimeoutError");
        let heard = |inference, decision| {
            words(&[("ai-platform-inference", 80, inference), ("ai-platform-decision", 80, decision)])
        };
        for (known, unknown, verdict) in [
            (heard(open, open), heard(refused, refused), Pass),
            (heard(open, open), heard(refused, open), Fail),
            (heard(open, open), heard("HTTP/1.1 401 Unauthorized", refused), Fail),
            (heard(open, open), heard(refused, "HTTP/1.1 503 Service Unavailable"), Fail),
            (heard(open, open), heard(refused, cut), Inconclusive),
            (heard(open, refused), heard(refused, refused), Inconclusive),
            (heard(cut, cut), heard(refused, refused), Inconclusive),
            (heard(open, open), words(&[]), Inconclusive),
            (words(&[]), heard(refused, refused), Inconclusive),
        ] {
            assert_eq!(judge(&known, &unknown).verdict, verdict, "{known:?} {unknown:?}");
        }
        let pass = judge(&heard(open, open), &heard(refused, refused));
        assert!(
            pass.reason.starts_with("2 services: ai-platform-inference ai-platform-gateway: HTTP/1.1 200")
        );
    }

    #[test]
    fn a_status_is_a_number_in_its_place() {
        for (line, found) in [
            ("HTTP/1.1 403 Forbidden", Some(403)),
            ("HTTP/1.0 200", Some(200)),
            ("refused: TimeoutError", None),
            ("closed", None),
            ("403 403", None),
        ] {
            assert_eq!(status(line), found, "{line}");
        }
    }
}
