//! What an operator sees and does: the status, nodes that are forgotten, peers that are left out,
//! elections; and what the nodes write down meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use skein_tests::cluster::{peer, see};
use skein_tests::node::skein_binary;
use skein_tests::program::{self, Finished};
use skein_tests::{Cluster, Node};

use super::not_ready;

/// Nothing here takes that long on a healthy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `skein` with these words to its end.
fn skein(words: &str) -> Finished {
    let mut command = Command::new(skein_binary());
    program::run(command.args(words.split_whitespace()), PATIENCE)
}

/// As [`skein`], of the cluster that the node is in.
fn ask(node: &Node, words: &str) -> Finished {
    skein(&format!("{words} --bootstrap {}", node.bootstrap()))
}

fn code(finished: &Finished) -> Option<i32> {
    finished.status.and_then(|status| status.code())
}

/// It must succeed.
fn done(node: &Node, words: &str) -> String {
    let finished = ask(node, words);
    assert!(finished.succeeded(), "{finished}{}", node.log_tail());
    finished.stdout
}

/// It must fail, and say this.
#[track_caller]
fn refused(finished: &Finished, told: &[&str]) {
    assert_eq!(code(finished), Some(1), "{finished}");
    for words in told {
        assert!(finished.stderr.contains(words), "{words}: {finished}");
    }
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

/// Waits until the status has this exit code, and says what it then showed.
fn status(cluster: &Cluster, asked: usize, expected: i32) -> Value {
    let what = format!("the status is {expected}");
    cluster.until(&what, || {
        let shown = ask(&cluster.nodes[asked], "cluster status --json");
        (code(&shown) == Some(expected)).then(|| json(&shown))
    })
}

/// The broker id of a node.
fn id(cluster: &Cluster, number: usize) -> i64 {
    let nodes = json(&ask(&cluster.nodes[number], "node list --json"));
    let address = cluster.nodes[number].bootstrap();
    let is_it = |node: &&Value| node["address"] == *address;
    let found = nodes.as_array().unwrap().iter().find(is_it);
    found.unwrap()["id"].as_i64().unwrap()
}

fn ids(value: &Value) -> Vec<i64> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_i64().unwrap()).collect()
}

fn create(node: &Node, topic: &str) {
    let words = "--partitions 3 --replication-factor 3 --config min.insync.replicas=2";
    done(node, &format!("topic create {topic} {words}"));
}

#[test]
fn the_status_names_what_is_missing_and_its_exit_code_says_how_bad_it_is() {
    let mut cluster = Cluster::start(3, &[]);
    create(&cluster.nodes[0], "t");
    let well = status(&cluster, 0, 0);
    assert_eq!(well["health"], "ok");
    let controller = well["quorum"]["controller"].as_i64().unwrap();
    assert_eq!(controller, id(&cluster, cluster.controller(0)));
    for node in well["nodes"].as_array().unwrap() {
        let role = match node["id"].as_i64() == Some(controller) {
            true => "controller",
            false => "voter",
        };
        assert_eq!(node["quorum"], role);
        assert_eq!((&node["leads"], &node["replicas"]), (&1.into(), &3.into()));
        assert!(node["quorum_lag"].is_i64(), "{node}");
    }
    for partition in well["partitions"].as_array().unwrap() {
        assert_eq!(partition["state"], "ok");
        assert_eq!(partition["min_isr"], 2);
        assert_eq!(ids(&partition["isr"]).len(), 3);
    }
    let table = done(&cluster.nodes[1], "cluster status --all");
    for words in ["3 voters, 0 learners", "3 partitions", "MIN ISR"] {
        assert!(table.contains(words), "{table}");
    }

    let dead = (cluster.controller(0) + 1) % 3;
    let dead_id = id(&cluster, dead);
    cluster.nodes[dead].kill();
    let asked = (dead + 1) % 3;
    let degraded = status(&cluster, asked, 3);
    assert_eq!(degraded["health"], "degraded");
    for partition in degraded["partitions"].as_array().unwrap() {
        assert_eq!(partition["state"], "under-replicated");
        assert_eq!(ids(&partition["behind"]), [dead_id]);
    }
    let list = done(&cluster.nodes[asked], "node list");
    let line = list.lines().find(|line| line.contains("fenced")).unwrap();
    assert!(line.contains(&cluster.nodes[dead].bootstrap()), "{list}");

    // One of three is no quorum: nothing can be changed.
    let second = (dead + 2) % 3;
    cluster.nodes[second].kill();
    let unavailable = status(&cluster, asked, 4);
    assert_eq!(unavailable["health"], "unavailable");

    cluster.nodes[dead].launch();
    cluster.nodes[second].launch();
    status(&cluster, asked, 0);
    let nobody = skein("cluster status --bootstrap 127.0.0.1:1 --timeout 1");
    refused(&nobody, &["no broker answers at 127.0.0.1:1"]);
}

#[test]
fn a_forgotten_node_says_so_when_it_is_back_and_joins_when_it_is_emptied() {
    let mut cluster = Cluster::start(3, &[]);
    create(&cluster.nodes[0], "t");
    status(&cluster, 0, 0);
    let gone = (cluster.controller(0) + 1) % 3;
    let gone_id = id(&cluster, gone);
    let asked = (gone + 1) % 3;
    let forget = format!("node forget {gone_id}");
    let unknown = ask(&cluster.nodes[asked], "node forget 77");
    refused(
        &unknown,
        &["no node with id 77 is registered", "skein node list"],
    );
    let alive = ask(&cluster.nodes[asked], &forget);
    refused(&alive, &["is alive", "stop it"]);

    cluster.nodes[gone].kill();
    cluster.until("it is forgotten", || {
        let finished = ask(&cluster.nodes[asked], &forget);
        finished.succeeded().then_some(())
    });
    cluster.until("two nodes are left, and vote", || {
        let shown = json(&ask(&cluster.nodes[asked], "cluster status --json"));
        let nodes = shown["nodes"].as_array().unwrap();
        let is_left = nodes.len() == 2 && nodes.iter().all(|node| node["quorum"] != Value::Null);
        is_left.then_some(())
    });
    let again = ask(&cluster.nodes[asked], &forget);
    refused(&again, &["is registered"]);

    // It ends by itself, with what it was and what is to be done.
    let finished = program::run(&mut cluster.nodes[gone].command(), PATIENCE);
    let told = ["was forgotten by its cluster", "empty log.dirs"];
    refused(&finished, &told);

    fs::remove_dir_all(cluster.nodes[gone].data_directory()).unwrap();
    cluster.nodes[gone].launch();
    let whole = status(&cluster, asked, 0);
    assert_eq!(whole["nodes"].as_array().unwrap().len(), 3);
    cluster.until("it votes again", || {
        let shown = json(&ask(&cluster.nodes[asked], "cluster status --json"));
        let nodes = shown["nodes"].as_array().unwrap();
        let votes = |node: &Value| node["quorum"] == "voter" || node["quorum"] == "controller";
        nodes.iter().all(votes).then_some(())
    });
}

#[test]
fn a_node_with_the_only_copy_is_forgotten_only_by_whoever_accepts_the_loss() {
    let mut cluster = Cluster::start(3, &[]);
    let gone = (cluster.controller(0) + 1) % 3;
    let (gone_id, asked) = (id(&cluster, gone), (gone + 1) % 3);
    let mut topics = (0..20).map(|number| format!("one-{number}"));
    let led = topics.find(|topic| {
        let words = format!("topic create {topic} --replication-factor 1");
        done(&cluster.nodes[asked], &words);
        let leader = cluster.until("the topic is known", || {
            let described = ask(
                &cluster.nodes[asked],
                &format!("topic describe {topic} --json"),
            );
            (described.succeeded())
                .then(|| json(&described)[0]["partitions"][0]["leader"].clone())
                .filter(Value::is_i64)
        });
        leader == gone_id
    });
    let topic = led.unwrap();
    cluster.nodes[gone].kill();
    let offline = status(&cluster, asked, 4);
    assert!(
        offline["not_ok"]["offline"].as_i64() >= Some(1),
        "{offline}"
    );
    let forget = format!("node forget {gone_id}");
    let warned = ask(&cluster.nodes[asked], &forget);
    refused(&warned, &["may have the only copy of", "--accept-loss"]);
    cluster.until("it is forgotten", || {
        let finished = ask(&cluster.nodes[asked], &format!("{forget} --accept-loss"));
        finished.succeeded().then_some(())
    });
    let left = done(&cluster.nodes[asked], &format!("topic describe {topic}"));
    assert!(left.contains("without a leader"), "{left}");
}

#[test]
fn new_nodes_form_without_a_peer_that_is_gone_and_it_joins_when_it_comes() {
    let mut cluster = Cluster::prepare(3, &[]);
    let [a, b, c] = [0, 1, 2].map(|number| peer(&cluster.nodes[number]));
    cluster.nodes[0].launch();
    let silent = |node: &Node, peer: &str| {
        let told = format!("peer {peer} does not answer");
        cluster.until(&told, || {
            not_ready(node).filter(|text| text.contains(&told))
        });
    };
    silent(&cluster.nodes[0], &c);
    let form = |without: &str, at: &str| {
        skein(&format!(
            "cluster form --without {without} --peer {at} --timeout 20 --json"
        ))
    };
    refused(
        &form(&c, &b),
        &["no node at peer.listener", "nobody listens there"],
    );
    refused(
        &form(&c, &a),
        &[&format!("peer {b} does not answer either"), "--without"],
    );

    cluster.nodes[1].launch();
    let silent = |node: &Node, peer: &str| {
        let told = format!("peer {peer} does not answer");
        cluster.until(&told, || {
            not_ready(node).filter(|text| text.contains(&told))
        });
    };
    silent(&cluster.nodes[1], &c);
    refused(
        &form(&b, &a),
        &[&format!("peer {b} answers: it is not gone")],
    );
    refused(
        &form("127.0.0.1:1", &a),
        &["127.0.0.1:1 is not in its cluster.peers="],
    );
    let formed = form(&c, &a);
    assert!(formed.succeeded(), "{formed}{}", cluster.log_tails());
    let formed = json(&formed);
    let seen = cluster.wait_until_whole();
    assert_eq!(formed["cluster_id"], *seen.cluster_id);
    refused(&form(&c, &a), &["belongs to cluster", "already"]);

    cluster.nodes[2].launch();
    let whole = cluster.wait_until_whole();
    assert_eq!(whole.cluster_id, seen.cluster_id);
    assert_eq!(whole.brokers.len(), 3);
}

#[test]
fn only_a_record_that_came_to_nothing_is_dropped_and_only_of_a_node_that_is_stopped() {
    let mut cluster = Cluster::start(3, &[]);
    let before = see(&cluster.nodes[0]).unwrap();
    // `metadata.log.dir` is below `log.dirs`, unless somebody says otherwise.
    let metadata = metadata_directory(cluster.nodes[0].data_directory());
    let drop = format!("node forget --founding-record {}", metadata.display());
    refused(&skein(&drop), &["is in use by another process"]);
    cluster.stop();
    refused(
        &skein(&drop),
        &["the cluster has had a controller", "nothing was dropped"],
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().display();
    let nothing = skein(&format!("node forget --founding-record {path}"));
    refused(&nothing, &["holds no identity"]);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    cluster.start_again();
    assert_eq!(
        see(&cluster.nodes[0]).unwrap().cluster_id,
        before.cluster_id
    );
}

/// The directory with the file `identity` below this one.
fn metadata_directory(data: PathBuf) -> PathBuf {
    let directories = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found = directories.filter(|path| path.join("identity").is_file());
    found.next().unwrap()
}

#[test]
fn preferred_leaders_lead_again_on_request_and_each_refusal_names_its_partition() {
    let mut cluster = Cluster::start(3, &[("auto.leader.rebalance.enable", "false")]);
    create(&cluster.nodes[0], "t");
    status(&cluster, 0, 0);
    let moved = (cluster.controller(0) + 1) % 3;
    let (moved_id, asked) = (id(&cluster, moved), (moved + 1) % 3);
    let leaders = |node: &Node| {
        let shown = json(&ask(node, "cluster status --json"));
        let partitions = shown["partitions"].as_array().unwrap().iter();
        let led = partitions.filter(|one| one["leader"] == moved_id);
        led.map(|one| one["partition"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let own = leaders(&cluster.nodes[asked]);
    assert_eq!(own.len(), 1);
    let own = own[0];
    cluster.nodes[moved].kill();
    cluster.until("another one leads", || {
        leaders(&cluster.nodes[asked]).is_empty().then_some(())
    });
    let node = &cluster.nodes[asked];
    let early = ask(node, &format!("partition elect t:{own}"));
    refused(&early, &["1 of 1 partition"]);
    assert!(
        early.stdout.contains("PREFERRED_LEADER_NOT_AVAILABLE"),
        "{early}"
    );

    cluster.nodes[moved].launch();
    status(&cluster, asked, 0);
    let node = &cluster.nodes[asked];
    assert_eq!(leaders(node), [0; 0], "nobody asked for it yet");
    let elected = json(&ask(node, "partition elect t --json"));
    let elected = elected.as_array().unwrap();
    assert_eq!(elected.len(), 3);
    for one in elected {
        let is_own = one["partition"] == own;
        let result = if is_own { "elected" } else { "has it already" };
        assert_eq!(one["result"], result, "{elected:?}");
    }
    cluster.until("every node knows", || {
        (leaders(node) == [own]).then_some(())
    });
    let all = done(node, "partition elect --all");
    assert_eq!(all.matches("has it already").count(), 3, "{all}");
    let unneeded = done(node, "partition elect t:0 --unclean --accept-loss");
    assert!(unneeded.contains("has it already"), "{unneeded}");

    refused(
        &ask(node, "partition elect nowhere"),
        &["topic nowhere", "skein topic list"],
    );
    refused(&ask(node, "partition elect nowhere:0"), &["topic nowhere"]);
    let some = ask(node, "partition elect t:0 t:7");
    refused(&some, &["1 of 2 partitions"]);
    assert!(some.stdout.contains("has no partition 7"), "{some}");
}

#[test]
fn what_nodes_write_down_agrees_and_survives_a_kill() {
    let mut cluster = Cluster::prepare(3, &[]);
    let path = |node: &Node| node.directory().join("audit.jsonl");
    for node in &mut cluster.nodes {
        let path = path(node).display().to_string();
        node.add_arguments(&["--audit-log", &path]);
    }
    cluster.start_again();
    create(&cluster.nodes[0], "t");
    status(&cluster, 0, 0);
    let dead = (cluster.controller(0) + 1) % 3;
    let written = fs::read(path(&cluster.nodes[dead])).unwrap();
    cluster.nodes[dead].kill();
    status(&cluster, (dead + 1) % 3, 3);
    // As if it had been killed in the middle of a line.
    let mut torn = written.clone();
    torn.extend(b"{\"time\":17");
    fs::write(path(&cluster.nodes[dead]), &torn).unwrap();
    cluster.nodes[dead].launch();
    status(&cluster, (dead + 1) % 3, 0);
    cluster.stop();

    let mut hashes: BTreeMap<i64, Value> = BTreeMap::new();
    let mut compared = 0;
    for node in &cluster.nodes {
        let mut events: BTreeMap<String, usize> = BTreeMap::new();
        for line in lines(&path(node)) {
            let event = line["event"].as_str().unwrap().to_owned();
            if event == "applied" {
                let hash = line["hash"].clone();
                let known = hashes.insert(line["index"].as_i64().unwrap(), hash.clone());
                compared += usize::from(known.is_some());
                assert!(known.is_none_or(|known| known == hash), "{line}");
            }
            *events.entry(event).or_default() += 1;
        }
        for event in ["start", "leader", "applied", "partition"] {
            assert!(events.contains_key(event), "{event}: {events:?}");
        }
    }
    assert!(compared > 10, "{compared}");
    let again = fs::read(path(&cluster.nodes[dead])).unwrap();
    assert!(
        again.starts_with(&written),
        "nothing that was written is lost"
    );

    let foreign = cluster.nodes[0].directory().join("foreign");
    fs::write(&foreign, "root:x:0\n").unwrap();
    let data = cluster.nodes[0].directory().join("unused");
    let (file, data) = (foreign.display(), data.display());
    let finished = skein(&format!("serve --audit-log {file} --set log.dirs={data}"));
    assert_eq!(code(&finished), Some(2), "{finished}");
    assert!(
        finished.stderr.contains("something else than an audit log"),
        "{finished}"
    );
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "root:x:0\n");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}
