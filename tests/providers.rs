//! kind and k3d as stories, without either: programs replay what Docker, kind and k3d say. See `transcript`.

#[path = "transcript/mod.rs"]
mod transcript;

use mettle::provider::docker::record::{Member, Place, Record};
use mettle::provider::docker::{Flavour, down, node, open, status, up};
use mettle::provider::images::Image;
use mettle::provider::power::NodeState;
use mettle::provider::{ClusterHandle, ProviderError};
use transcript::Replay;

const FLAVOURS: [Flavour; 2] = [Flavour::Kind, Flavour::K3d];

fn tell(flavour: Flavour, story: &str) -> Replay {
    Replay::of(&format!("{}-{story}.txt", flavour.name()))
}

fn redis(replay: &Replay) -> Image {
    let reference = "localhost/mettle/redis:0a".to_owned();
    Image { reference, archive: replay.archives().join("redis-0a.tar") }
}

fn options(images: Vec<Image>) -> up::Options {
    up::Options { name: "x".to_owned(), node_image: None, images }
}

fn place(replay: &Replay, flavour: Flavour) -> Place {
    Place::new(&replay.host(), flavour, "x").unwrap()
}

fn nodes(flavour: Flavour) -> [&'static str; 4] {
    match flavour {
        Flavour::Kind => {
            ["mettle-x-control-plane", "mettle-x-worker", "mettle-x-worker2", "mettle-x-worker3"]
        }
        Flavour::K3d => {
            ["k3d-mettle-x-server-0", "k3d-mettle-x-agent-0", "k3d-mettle-x-agent-1", "k3d-mettle-x-agent-2"]
        }
    }
}

/// As an earlier `up` left it; no ids when it died while the cluster was made.
fn remember(replay: &Replay, flavour: Flavour, ids: &[&str]) -> ClusterHandle {
    let members = ids.iter().zip(nodes(flavour)).enumerate().map(|(at, (id, name))| Member {
        name: name.to_owned(),
        id: (*id).to_owned(),
        role: if at == 0 { flavour.server_role() } else { flavour.worker_role() }.to_owned(),
    });
    let record = Record {
        name: "x".to_owned(),
        provider: flavour.name().to_owned(),
        created: "2026-01-02T00:00:00Z".to_owned(),
        members: members.collect(),
    };
    let place = place(replay, flavour);
    place.save(&record).unwrap();
    place.handle(&record)
}

const IDS: [&str; 4] = ["c0", "c1", "c2", "c3"];

#[test]
fn a_cluster_is_made_and_lacking_images_are_loaded() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "create");
        let handle = up::up(&replay.host(), flavour, &options(vec![redis(&replay)])).unwrap();
        assert_eq!(handle.nodes, nodes(flavour)[1..], "the API's node is not ours to kill");
        assert!(handle.kubeconfig.starts_with(replay.state()), "never the user's own");
        let text = std::fs::read_to_string(&handle.kubeconfig).unwrap();
        assert_eq!(text, "apiVersion: v1\nkind: Config\n");
        let record = place(&replay, flavour).load().unwrap().unwrap();
        assert_eq!(record.server(flavour).unwrap().id, "c0");
        replay.end();
    }
}

#[test]
fn what_stands_is_resumed_and_what_is_off_is_started() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "resume");
        remember(&replay, flavour, &IDS);
        up::up(&replay.host(), flavour, &options(Vec::new())).unwrap();
        replay.end();
    }
}

#[test]
fn a_cluster_that_was_made_half_goes_first() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "half");
        remember(&replay, flavour, &[]);
        let handle = up::up(&replay.host(), flavour, &options(Vec::new())).unwrap();
        assert_eq!(handle.nodes.len(), 3);
        replay.end();
    }
}

#[test]
fn an_image_that_did_not_arrive_is_told() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "unloaded");
        remember(&replay, flavour, &IDS);
        let error = up::up(&replay.host(), flavour, &options(vec![redis(&replay)])).unwrap_err();
        assert!(error.to_string().starts_with("failed to find localhost/mettle/redis:0a on "), "{error}");
        replay.end();
    }
}

#[test]
fn a_node_is_killed_once_and_started_again() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "node");
        let (host, handle) = (replay.host(), remember(&replay, flavour, &IDS));
        let worker = nodes(flavour)[1];
        node::kill(&host, flavour, &handle, worker).unwrap();
        assert_eq!(node::state(&host, flavour, &handle, worker).unwrap(), NodeState::Off);
        node::kill(&host, flavour, &handle, worker).unwrap();
        node::start(&host, flavour, &handle, worker).unwrap();
        assert_eq!(node::state(&host, flavour, &handle, worker).unwrap(), NodeState::On);
        let refused = node::kill(&host, flavour, &handle, nodes(flavour)[0]).unwrap_err();
        assert!(matches!(refused, ProviderError::NoSuchNode { .. }), "the API's node: {refused}");
        replay.end();
    }
}

#[test]
fn a_cluster_is_deleted_and_nothing_is_remembered() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "delete");
        remember(&replay, flavour, &IDS);
        assert!(down::down(&replay.host(), flavour, "x").unwrap());
        assert!(place(&replay, flavour).load().unwrap().is_none());
        replay.end();
    }
}

#[test]
fn what_survives_a_deletion_is_told_and_remembered() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "left");
        remember(&replay, flavour, &IDS);
        let error = down::down(&replay.host(), flavour, "x").unwrap_err();
        assert!(matches!(error, ProviderError::Residue { .. }), "{error}");
        assert!(place(&replay, flavour).load().unwrap().is_some(), "the next `down` finds it");
        replay.end();
    }
}

/// Nothing is created, deleted or loaded: the transcripts end after the look.
#[test]
fn a_cluster_of_somebody_else_is_neither_adopted_nor_removed() {
    let others: [(&str, Option<&[&str]>); 3] =
        [("no record", None), ("made anew", Some(&["d0", "d1", "d2", "d3"])), ("one more", Some(&IDS[..3]))];
    for flavour in FLAVOURS {
        for (what, ids) in others {
            let recall = |replay: &Replay| ids.map(|ids| remember(replay, flavour, ids));
            let is_foreign = |error: ProviderError| {
                assert!(matches!(error, ProviderError::Foreign { .. }), "{what}: {error}");
            };
            let replay = tell(flavour, "taken");
            recall(&replay);
            is_foreign(up::up(&replay.host(), flavour, &options(Vec::new())).unwrap_err());
            replay.end();
            let replay = tell(flavour, "theirs");
            recall(&replay);
            is_foreign(down::down(&replay.host(), flavour, "x").unwrap_err());
            replay.end();
            if ids.is_some() {
                let replay = tell(flavour, "theirs");
                recall(&replay);
                is_foreign(open(&replay.host(), flavour, "x").unwrap_err());
                replay.end();
                let replay = tell(flavour, "theirs");
                recall(&replay);
                is_foreign(status::status(&replay.host(), flavour, "x").unwrap_err());
                replay.end();
            }
        }
    }
}

#[test]
fn a_cluster_that_stands_is_opened_and_shown() {
    for flavour in FLAVOURS {
        let replay = tell(flavour, "theirs");
        remember(&replay, flavour, &IDS);
        assert_eq!(open(&replay.host(), flavour, "x").unwrap().nodes.len(), 3);
        replay.end();
        let replay = tell(flavour, "theirs");
        remember(&replay, flavour, &IDS);
        let shown = status::status(&replay.host(), flavour, "x").unwrap().unwrap();
        let server = shown.members.iter().find(|one| one.role == flavour.server_role()).unwrap();
        assert_eq!((server.running, server.pid), (true, Some(4000)));
        replay.end();
    }
}

#[test]
fn without_a_record_there_is_no_cluster_and_docker_is_not_asked() {
    for flavour in FLAVOURS {
        let replay = Replay::of("no-docker.txt");
        let error = open(&replay.host(), flavour, "x").unwrap_err();
        assert!(matches!(error, ProviderError::NotStanding { .. }), "{error}");
        assert!(status::status(&replay.host(), flavour, "x").unwrap().is_none());
        replay.end();
    }
}

#[test]
fn what_is_not_installed_or_does_not_run_is_told_with_the_next_step() {
    let cases = [
        ("no-docker.txt", "docker: it is not installed", "apt-get install docker.io"),
        ("no-engine.txt", "docker: its engine does not answer: Cannot connect", "systemctl start docker"),
        ("no-kind.txt", "kind: it is not installed", "install kind 0.20 or newer"),
        (
            "old-kind.txt",
            "kind: \"kind v0.11.1 go1.16.4 linux/amd64\" is older than 0.20",
            "install kind 0.20",
        ),
    ];
    for (transcript, told, step) in cases {
        let replay = Replay::of(transcript);
        let error = up::up(&replay.host(), Flavour::Kind, &options(Vec::new())).unwrap_err();
        assert!(error.to_string().starts_with(told), "{transcript}: {error}");
        let ProviderError::Program { next_step, .. } = &error else { panic!("{transcript}: {error}") };
        assert!(next_step.contains(step), "{transcript}: {next_step}");
        assert!(place(&replay, Flavour::Kind).load().unwrap().is_none(), "{transcript}: nothing was begun");
        replay.end();
    }
}

#[test]
fn a_node_image_that_cannot_be_pulled_is_told_in_kinds_own_words() {
    let replay = tell(Flavour::Kind, "no-image");
    let error = up::up(&replay.host(), Flavour::Kind, &options(Vec::new())).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("network is unreachable"), "{cause}");
    replay.end();
}

#[test]
fn names() {
    let replay = Replay::of("no-docker.txt");
    for bad in ["", "../x", "A", "a_b", "x123456789012345678901"] {
        let error = Place::new(&replay.host(), Flavour::Kind, bad).unwrap_err();
        assert!(matches!(error, ProviderError::BadName { .. }), "{bad:?}: {error}");
    }
}
