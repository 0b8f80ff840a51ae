//! `drop`: packets are dropped or rejected, all of them or a share.

use std::net::Ipv4Addr;

use crate::nft::{Direction, Table, peers_match, render};
use crate::say::Evidence;
use crate::work::Work;

const API_SERVER: &str = "KUBERNETES_SERVICE_HOST";
const IN: &str = "matched_in";
const OUT: &str = "matched_out";
/// What kernels say to each other of themselves (neighbours, routers, multicast groups): counting it would be evidence
/// of an effect where no program sends anything.
const NOISE: [&str; 2] = [
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, \
     mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept",
    "meta l4proto igmp accept",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    Drop,
    Reject,
}

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Addresses of the other side, separated by commas; everybody when absent
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<Ipv4Addr>,
    /// The API server's service address is one of them: the one that the kubelet tells every container
    #[arg(long)]
    pub api_server: bool,
    /// Port of the server: the target's own for `in`, the remote one for `out`; every packet when absent
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
    /// Share of the packets that is hit, percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: u8,
    #[arg(long, value_enum, default_value = "drop")]
    pub action: Action,
}

pub struct Cut {
    options: Options,
    table: Option<Table>,
    before: u64,
}

impl Cut {
    pub fn new(options: Options) -> Self {
        Self { options, table: None, before: 0 }
    }
}

impl Work for Cut {
    fn start(&mut self) -> Result<(), String> {
        if self.options.api_server {
            self.options.peers.push(api_server(std::env::var(API_SERVER).ok())?);
        }
        let table = self.table.insert(Table::claim()?);
        table.load(&ruleset(&table.name, &self.options))
    }

    fn report(&mut self) -> Evidence {
        let Some(table) = &self.table else { return Evidence::failed("there is no table") };
        let counters = match table.counters() {
            Ok(counters) => counters,
            Err(error) => return Evidence::failed(error),
        };
        let (Some(inward), Some(outward)) = (counters.get(IN), counters.get(OUT)) else {
            return Evidence::failed("the counters are gone");
        };
        let all = inward + outward;
        let new = all.saturating_sub(self.before);
        self.before = all;
        let verb = if self.options.action == Action::Drop { "dropped" } else { "rejected" };
        let text = format!(
            "{inward} packets in and {outward} out {verb} since the start, {new} since the last report"
        );
        if all == 0 { Evidence::waiting(text) } else { Evidence::effect(text) }
    }

    fn undo(&mut self) -> Result<String, String> {
        let Some(table) = &self.table else { return Ok("nothing was loaded".to_owned()) };
        table.delete()?;
        Ok(format!("table {} is gone", table.name))
    }
}

fn api_server(told: Option<String>) -> Result<Ipv4Addr, String> {
    let address =
        told.ok_or_else(|| format!("{API_SERVER} is not set: nobody said where the API server is"))?;
    address.parse().map_err(|_| format!("{API_SERVER} is {address}, which is no IPv4 address"))
}

fn ruleset(name: &str, options: &Options) -> String {
    let share = if options.percent < 100 {
        format!("numgen random mod 100 < {} ", options.percent)
    } else {
        String::new()
    };
    let (inward, outward) = matches(options);
    let chain = |interface: &str, matches: Vec<String>, hit: &str| {
        let mut rules = vec![format!("{interface} \"lo\" accept")];
        rules.extend(NOISE.map(str::to_owned));
        if options.action == Action::Reject {
            // The refusals themselves come through here, and have to get out.
            rules.push("tcp flags & rst == rst accept".to_owned());
            rules.push("icmp type destination-unreachable accept".to_owned());
            rules.push("icmpv6 type destination-unreachable accept".to_owned());
        }
        rules.extend(matches.into_iter().map(|one| format!("{one}{share}goto {hit}")));
        rules
    };
    let verdict = |counter: &str| {
        let mut rules = vec![format!("counter name \"{counter}\"")];
        match options.action {
            Action::Drop => rules.push("drop".to_owned()),
            Action::Reject => {
                rules.extend(["meta l4proto tcp reject with tcp reset".to_owned(), "reject".to_owned()]);
            }
        }
        rules
    };
    render(
        name,
        &[IN, OUT],
        &[
            ("hit_in", "", verdict(IN)),
            ("hit_out", "", verdict(OUT)),
            ("input", "filter hook input priority -150", chain("iifname", inward, "hit_in")),
            ("output", "filter hook output priority -150", chain("oifname", outward, "hit_out")),
        ],
    )
}

/// What is hit of the packets that come in, and of those that go out.
fn matches(options: &Options) -> (Vec<String>, Vec<String>) {
    let (from, to) = (peers_match("saddr", &options.peers), peers_match("daddr", &options.peers));
    let serves = matches!(options.direction, Direction::In | Direction::Both);
    let calls = matches!(options.direction, Direction::Out | Direction::Both);
    let (mut inward, mut outward) = (Vec::new(), Vec::new());
    match options.port {
        None => {
            inward.extend(serves.then_some(from));
            outward.extend(calls.then_some(to));
        }
        Some(port) => {
            let transport = "meta l4proto { tcp, udp } th";
            if serves {
                inward.push(format!("{from}{transport} dport {port} "));
                outward.push(format!("{to}{transport} sport {port} "));
            }
            if calls {
                outward.push(format!("{to}{transport} dport {port} "));
                inward.push(format!("{from}{transport} sport {port} "));
            }
        }
    }
    (inward, outward)
}

#[cfg(test)]
mod tests {
    use super::{Action, Direction, Options, ruleset};

    fn options(direction: Direction, port: Option<u16>, percent: u8, action: Action) -> Options {
        Options { peers: Vec::new(), api_server: false, port, direction, percent, action }
    }

    fn chain<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let begin = format!("chain {name} {{");
        let lines = text.lines().map(str::trim).skip_while(|line| *line != begin).skip(2);
        lines.take_while(|line| *line != "}").collect()
    }

    #[test]
    fn directions_and_ports() {
        use Direction::{Both, In, Out};
        let th = |side, port| format!("meta l4proto {{ tcp, udp }} th {side} {port} goto ");
        let table = [
            (In, None, vec!["goto ".into()], vec![]),
            (Out, None, vec![], vec!["goto ".into()]),
            (In, Some(80), vec![th("dport", 80)], vec![th("sport", 80)]),
            (Out, Some(80), vec![th("sport", 80)], vec![th("dport", 80)]),
            (Both, Some(80), vec![th("dport", 80), th("sport", 80)], vec![th("sport", 80), th("dport", 80)]),
        ];
        for (direction, port, inward, outward) in table {
            let text = ruleset("mettle_1", &options(direction, port, 100, Action::Drop));
            let with =
                |rules: Vec<String>, hit: &str| rules.into_iter().map(|rule| rule + hit).collect::<Vec<_>>();
            assert_eq!(chain(&text, "input")[3..], with(inward, "hit_in"), "{direction:?} {port:?}");
            assert_eq!(chain(&text, "output")[3..], with(outward, "hit_out"), "{direction:?} {port:?}");
        }
    }

    #[test]
    fn loopback_comes_first_a_share_is_drawn_and_peers_are_matched() {
        let mut some = options(Direction::In, None, 30, Action::Drop);
        some.peers = vec!["10.0.0.1".parse().unwrap()];
        let text = ruleset("mettle_1", &some);
        let (input, output) = (chain(&text, "input"), chain(&text, "output"));
        assert_eq!((input[0], output[0]), ("iifname \"lo\" accept", "oifname \"lo\" accept"));
        assert_eq!(input[3..], ["ip saddr { 10.0.0.1 } numgen random mod 100 < 30 goto hit_in"]);
        assert_eq!(output.len(), 3, "{output:?}");
        assert!(text.contains("counter name \"matched_in\"\n\t\tdrop\n"), "{text}");
    }

    #[test]
    fn the_api_server_is_where_the_kubelet_says() {
        assert_eq!(super::api_server(Some("10.0.0.1".into())), Ok("10.0.0.1".parse().unwrap()));
        assert!(super::api_server(None).unwrap_err().contains("is not set"));
        assert!(super::api_server(Some("kubernetes".into())).unwrap_err().contains("no IPv4 address"));
    }

    #[test]
    fn a_refusal_is_let_out() {
        let text = ruleset("mettle_1", &options(Direction::Both, Some(5432), 100, Action::Reject));
        assert_eq!(chain(&text, "output")[3], "tcp flags & rst == rst accept");
        assert!(text.contains("meta l4proto tcp reject with tcp reset\n\t\treject\n"), "{text}");
        assert!(text.contains("type filter hook input priority -150; policy accept;"), "{text}");
    }
}
