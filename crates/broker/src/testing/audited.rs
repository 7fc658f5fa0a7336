//! What the nodes of a simulated cluster write down agrees.
//!
//! Input: a seed. Output: audit logs, compared entry by entry.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::path::Path;

use skein_env::OpenMode;
use skein_env::sim::SimWorld;
use skein_quorum::AuditLog;

use super::cluster::{HOSTS, active, controller_of, until};
use super::{Node, cluster_config, create};

const PATH: &str = "/audit.jsonl";

/// The whole lines of a machine's audit log.
fn lines(world: &SimWorld, host: &str) -> Vec<String> {
    let disk = world.node(host).disk;
    let file = disk.open(Path::new(PATH), OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with('\n'), "a line is written whole");
    text.lines().map(str::to_owned).collect()
}

/// What stands behind `"name":` in a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()
}

/// By index: term and hash of each entry that was applied.
fn applied(lines: &[String]) -> BTreeMap<u64, (String, String)> {
    let applied = lines
        .iter()
        .filter(|line| line.contains("\"event\":\"applied\""));
    let entry = |line: &String| {
        let text = |name| field(line, name).unwrap().to_owned();
        (text("index").parse().unwrap(), (text("term"), text("hash")))
    };
    applied.map(entry).collect()
}

/// All but the time.
fn events(lines: &[String], event: &str) -> Vec<String> {
    let event = format!("\"event\":\"{event}\"");
    let events = lines.iter().filter_map(|line| {
        let at = line.find(&event)?;
        Some(line[at..].to_owned())
    });
    events.collect()
}

#[test]
fn all_nodes_write_the_same_down_of_every_entry_and_of_every_change_of_an_isr() {
    let world = SimWorld::new(77);
    let configs = HOSTS.map(|host| cluster_config(&world, host, &HOSTS, &[]));
    world.block_on(async {
        let start = async |number: usize| {
            let env = world.node(HOSTS[number]);
            let audit = AuditLog::open(&env, Path::new(PATH)).unwrap();
            Node::start_audited(env, &configs[number], Some(audit)).await
        };
        let nodes = tokio::join!(start(0), start(1), start(2));
        let mut nodes = vec![nodes.0, nodes.1, nodes.2];
        for node in &nodes {
            until(|| active(node) == 3).await;
        }
        let leading = controller_of(&nodes).await;
        let shared = nodes[leading].shared();
        create(shared, "t", &[]).await.unwrap();
        let dead = (leading + 1) % 3;
        world.kill(HOSTS[dead]);
        drop(nodes.remove(dead));
        for node in &nodes {
            until(|| active(node) == 2).await;
        }
        let alive: Vec<_> = HOSTS.iter().filter(|host| **host != HOSTS[dead]).collect();
        let [one, other] = [0, 1].map(|number: usize| lines(&world, alive[number]));
        let gone = lines(&world, HOSTS[dead]);
        let mut compared = 0;
        for lines in [&other, &gone] {
            let theirs = applied(lines);
            for (index, entry) in applied(&one) {
                let their = theirs.get(&index);
                compared += usize::from(their.is_some());
                assert!(their.is_none_or(|their| *their == entry), "entry {index}");
            }
        }
        assert!(compared > 10, "{compared}");
        // The one that leads may be an entry ahead.
        let (ours, theirs) = (events(&one, "partition"), events(&other, "partition"));
        assert!(ours.starts_with(&theirs) || theirs.starts_with(&ours));
        assert!(!ours.is_empty() && !theirs.is_empty());
        for lines in [&one, &other, &gone] {
            assert_eq!(events(lines, "start").len(), 1);
            let leaders = events(lines, "leader");
            assert!(
                leaders.iter().any(|line| !line.contains("null")),
                "{leaders:?}"
            );
        }
    });
}
