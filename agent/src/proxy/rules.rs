//! The proxy's table: new connections are redirected to the listener, old ones reset when that is wanted.

use super::options::{Direction, Options};
use crate::nft::{MARK, peers_match, render};

pub const REDIRECTED: &str = "redirected";
pub const REDIRECT_CHAIN: &str = "redirect_new";
pub const KILLED: &str = "killed";

/// Only the first packet of a connection is matched: one that began before the table is not torn out of its
/// conversation, even where the kernel takes it up in the middle.
const FIRST: &str = "tcp flags & (fin | syn | rst | ack) == syn";

pub fn ruleset(name: &str, options: &Options, listener: u16) -> String {
    let port = options.port;
    let ours = format!("meta mark {MARK:#x} accept");
    let redirect = format!("counter name \"{REDIRECTED}\" redirect to :{listener}");
    let mut chains = match options.direction {
        Direction::In => {
            let peers = peers_match("saddr", &options.peers);
            // Our own connection to the server goes over loopback: it comes by here a second time.
            let rule = format!("meta nfproto ipv4 {peers}tcp dport {port} {FIRST} {redirect}");
            let rules = vec!["iifname \"lo\" accept".to_owned(), ours.clone(), rule];
            vec![(REDIRECT_CHAIN, "nat hook prerouting priority -110", rules)]
        }
        Direction::Out => {
            let peers = peers_match("daddr", &options.peers);
            let rule = format!("meta nfproto ipv4 {peers}tcp dport {port} {FIRST} {redirect}");
            let rules = vec!["oifname \"lo\" accept".to_owned(), ours.clone(), rule];
            vec![(REDIRECT_CHAIN, "nat hook output priority -110", rules)]
        }
    };
    if options.kill_existing {
        chains.extend(killers(options, &ours));
    }
    render(name, &[REDIRECTED, KILLED], &chains)
}

/// After address translation (priority 0): what goes through us does not bear the port any more, so that what still
/// does was there before.
fn killers(options: &Options, ours: &str) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let port = options.port;
    let kill = format!("tcp flags & syn == 0x0 counter name \"{KILLED}\" reject with tcp reset");
    // The resets themselves come by here, and have to get out.
    let head = |interface: &str| {
        vec![
            format!("{interface} \"lo\" accept"),
            "tcp flags & rst == rst accept".to_owned(),
            ours.to_owned(),
        ]
    };
    let (from, to) = (peers_match("saddr", &options.peers), peers_match("daddr", &options.peers));
    let (mut inward, mut outward) = (head("iifname"), head("oifname"));
    match options.direction {
        Direction::In => {
            inward.push(format!("meta nfproto ipv4 {from}tcp dport {port} {kill}"));
            outward.push(format!("meta nfproto ipv4 {to}tcp sport {port} {kill}"));
            vec![
                ("kill_in", "filter hook input priority 0", inward),
                ("kill_out", "filter hook output priority 0", outward),
            ]
        }
        // Answers to us and to the target look alike: only what goes out tells them apart, by the mark.
        Direction::Out => {
            outward.push(format!("meta nfproto ipv4 {to}tcp dport {port} {kill}"));
            vec![("kill_out", "filter hook output priority 0", outward)]
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::ruleset;
    use crate::proxy::Options;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn rendered(arguments: &[&str]) -> String {
        let line = [&["x", "--port", "5432"], arguments].concat();
        ruleset("mettle_9", &Line::try_parse_from(line).unwrap().options, 4000)
    }

    #[test]
    fn connections_in_are_redirected_before_routing_and_ours_are_not() {
        let text = rendered(&["--peers", "10.0.0.1"]);
        let expected = "\tchain redirect_new {\n\t\ttype nat hook prerouting priority -110; policy accept;\n\
            \t\tiifname \"lo\" accept\n\t\tmeta mark 0x6d65 accept\n\
            \t\tmeta nfproto ipv4 ip saddr { 10.0.0.1 } tcp dport 5432 tcp flags & (fin | syn | rst | ack) == syn \
            counter name \"redirected\" redirect to :4000\n\t}\n}\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn connections_out_are_redirected_at_the_output() {
        let text = rendered(&["--direction", "out", "--peers", "10.0.0.1"]);
        assert!(text.contains("type nat hook output priority -110"), "{text}");
        assert!(text.contains("ip daddr { 10.0.0.1 } tcp dport 5432"), "{text}");
        assert!(!text.contains("reject"), "{text}");
    }

    #[test]
    fn existing_ones_are_reset_only_when_wanted_and_never_ours() {
        let both = rendered(&["--kill-existing"]);
        assert!(
            both.contains("tcp dport 5432 tcp flags & syn == 0x0 counter name \"killed\" reject with"),
            "{both}"
        );
        assert!(both.contains("tcp sport 5432"), "{both}");
        let out = rendered(&["--kill-existing", "--direction", "out"]);
        assert!(!out.contains("hook input"), "{out}");
        assert_eq!(out.matches("meta mark 0x6d65 accept").count(), 2, "{out}");
    }
}
