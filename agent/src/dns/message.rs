//! DNS messages (RFC 1035), as much of them as answering a query wrongly takes.

use std::net::Ipv4Addr;

const HEADER: usize = 12;
const NAME_MAX: usize = 255;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// Of wrong answers: nobody shall remember one after the end.
const TTL_SECONDS: u32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Fine = 0,
    NoSuchName = 3,
    Refused = 5,
}

/// The first question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Lower case, without the last dot.
    pub name: String,
    pub kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// The question of a query; absent when it is no query with one question, or garbage.
pub fn question(message: &[u8]) -> Option<Question> {
    let is_answer = message.get(2)? & 0x80 != 0;
    if is_answer || number(message, 4)? != 1 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            // A question is the first thing in a message: there is nothing yet that it could point to.
            64.. => return None,
            _ => {
                let label = message.get(at..at + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                at += length;
            }
        }
        if at - HEADER > NAME_MAX {
            return None;
        }
    }
    Some(Question { name, kind: number(message, at)?, class: number(message, at + 2)?, end: at + 4 })
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

impl Question {
    /// Whether the name is the suffix or lies below it. No suffix: every name does.
    pub fn under(&self, suffix: Option<&str>) -> bool {
        let Some(suffix) = suffix else { return true };
        let suffix = suffix.trim_matches('.').to_ascii_lowercase();
        match self.name.strip_suffix(&suffix) {
            Some(front) => suffix.is_empty() || front.is_empty() || front.ends_with('.'),
            None => false,
        }
    }
}

/// An answer without records.
pub fn empty(query: &[u8], question: &Question, code: Code) -> Vec<u8> {
    let mut answer = query.get(..question.end).unwrap_or_default().to_vec();
    if answer.len() < HEADER {
        return Vec::new();
    }
    // An answer; the operation and "recursion desired" as asked; recursion available.
    answer[2] = 0x80 | (answer[2] & 0x79);
    answer[3] = 0x80 | code as u8;
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    answer
}

/// An answer with this address; without records when another type was asked for.
pub fn address(query: &[u8], question: &Question, address: Ipv4Addr) -> Vec<u8> {
    let mut answer = empty(query, question, Code::Fine);
    if question.kind == TYPE_A && question.class == CLASS_IN && answer.len() >= HEADER {
        answer[7] = 1;
        // Its name is the one at offset 12, the question's.
        answer.extend_from_slice(&[0xc0, 0x0c]);
        answer.extend_from_slice(&TYPE_A.to_be_bytes());
        answer.extend_from_slice(&CLASS_IN.to_be_bytes());
        answer.extend_from_slice(&TTL_SECONDS.to_be_bytes());
        answer.extend_from_slice(&4u16.to_be_bytes());
        answer.extend_from_slice(&address.octets());
    }
    answer
}

/// Nameservers of a resolv.conf, IPv4 only, in order.
pub fn nameservers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let lines = resolv_conf.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&1u16.to_be_bytes());
        // An EDNS record, as resolvers send it.
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let message = query("Redis.Default.svc.cluster.local", 1);
        let question = question(&message).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("redis.default.svc.cluster.local", 1));
        let none = empty(&message, &question, Code::NoSuchName);
        assert_eq!(none[..12], [0xab, 0xcd, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(none.len(), question.end);
        let refused = empty(&message, &question, Code::Refused);
        assert_eq!(refused[3] & 0x0f, 5);
        let wrong = address(&message, &question, Ipv4Addr::new(10, 9, 8, 7));
        assert_eq!((wrong[3] & 0x0f, wrong[7]), (0, 1));
        assert_eq!(wrong[question.end..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 9, 8, 7]);
    }

    #[test]
    fn another_type_gets_no_address() {
        let message = query("a.b", 28);
        let question = question(&message).unwrap();
        let answer = address(&message, &question, Ipv4Addr::LOCALHOST);
        assert_eq!((answer[7], answer.len()), (0, question.end));
    }

    #[test]
    fn suffixes_end_at_dots() {
        for (name, suffix, under) in [
            ("db.prod.local", Some("prod.local"), true),
            ("prod.local", Some("prod.local"), true),
            ("db.prod.local", Some(".PROD.local."), true),
            ("nonprod.local", Some("prod.local"), false),
            ("db.prod.local", Some("prod"), false),
            ("anything", None, true),
            ("anything", Some("."), true),
        ] {
            let question = question(&query(name, 1)).unwrap();
            assert_eq!(question.under(suffix), under, "{name} {suffix:?}");
        }
    }

    #[test]
    fn what_is_no_query_is_none() {
        let good = query("a.b", 1);
        let mut answer = good.clone();
        answer[2] |= 0x80;
        let mut two = good.clone();
        two[5] = 2;
        let mut pointer = good.clone();
        pointer[12] = 0xc0;
        for wrong in [answer, two, pointer, good[..15].to_vec(), Vec::new()] {
            assert_eq!(question(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn nameservers_are_read_in_order() {
        let text = "search default.svc.cluster.local\nnameserver 10.96.0.10\n# nameserver 1.1.1.1\n\
                    nameserver fd00::a\nnameserver\t10.96.0.11\noptions ndots:5\n";
        assert_eq!(nameservers(text), [Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(10, 96, 0, 11)]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = question(&bytes) {
                let _ = question.under(Some("local"));
                let none = empty(&bytes, &question, Code::Refused);
                prop_assert!(none.len() <= bytes.len());
                let _ = address(&bytes, &question, Ipv4Addr::LOCALHOST);
            }
        }

        #[test]
        fn a_broken_query_never_panics(at in 0usize..60, value: u8, cut in 0usize..60) {
            let mut message = query("some.name.in.a.cluster.local", 1);
            if let Some(byte) = message.get_mut(at) {
                *byte = value;
            }
            message.truncate(cut);
            if let Some(question) = question(&message) {
                let _ = address(&message, &question, Ipv4Addr::LOCALHOST);
            }
        }

        #[test]
        fn every_name_is_read_back(labels in prop::collection::vec("[a-z0-9-]{1,20}", 1..8)) {
            let name = labels.join(".");
            prop_assert_eq!(question(&query(&name, 1)).unwrap().name, name);
        }
    }
}
