//! A member seen from the wire: what it said is on its disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use skein_config::Layers;
use skein_env::sim::{Fault, Operation, SimWorld};
use skein_env::{BoxFuture, Lane};
use skein_metadata::LogId;
use skein_types::Uuid;

use super::*;
use crate::answers::PeerAnswers;
use crate::types::{RaftVote, raft_log_id};
use crate::{Controller, PeerTransport, QuorumOptions, QuorumPeers};

/// The others are silent: the test plays them.
struct Nobody;

impl PeerTransport for Nobody {
    fn call<'a>(
        &'a self,
        _address: &'a str,
        _request: Bytes,
        _timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Bytes>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

fn start(world: &SimWorld) -> PeerAnswers {
    let env = world.node("a");
    let settings = Layers::new().set("cluster.peers=a:1,b:1,c:1");
    let options = QuorumOptions {
        directory: PathBuf::from("/data/metadata"),
        config: Arc::new(settings.build().unwrap().0),
        features: vec![],
        audit: None,
    };
    let answers = PeerAnswers::new();
    let peers = QuorumPeers {
        transport: Arc::new(Nobody),
        answers: answers.clone(),
        address: String::new(),
    };
    let starting = Controller::start_with_peers(env.clone(), options, peers);
    let task = async move {
        let _ = starting.await;
    };
    env.spawn.spawn(Lane::Control, "start", Box::pin(task));
    answers
}

async fn ask<M: Message>(answers: &PeerAnswers, request: Bytes) -> Result<M, PeerRefusal> {
    wire::answer(&answers.answer(request).await)
}

async fn standing(answers: &PeerAnswers) -> Standing {
    loop {
        match ask(answers, wire::who()).await {
            Ok(standing) => return standing,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Has the node accept a record with two others, and waits until it serves Raft.
async fn founded(answers: &PeerAnswers) -> u64 {
    let raft_id = standing(answers).await.raft_id;
    let founding = Founding {
        cluster_id: Uuid([1; 16]).into(),
        members: vec![
            (raft_id, "a:1".into()),
            (2, "b:1".into()),
            (3, "c:1".into()),
        ],
    };
    let offer = wire::encode(&founding).unwrap();
    let offered: Offered = ask(answers, offer).await.unwrap();
    assert_eq!(offered.refused, None);
    while standing(answers).await.founding != Some(founding.clone())
        || vote(answers, raft_id, 0, 2).await.is_err()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    raft_id
}

async fn vote(
    answers: &PeerAnswers,
    target: u64,
    term: u64,
    candidate: u64,
) -> Result<bool, PeerRefusal> {
    let last = raft_log_id(LogId { term: 90, index: 9 });
    let request = VoteRequest::new(RaftVote::new(term, candidate), Some(last));
    let ballot = wire::encode(&Ballot { target, request }).unwrap();
    let answer: BallotAnswer = ask(answers, ballot).await?;
    Ok(answer.0.vote_granted)
}

#[test]
fn a_vote_that_was_granted_survives_a_power_cut() {
    for seed in 0..10 {
        let world = SimWorld::new(seed);
        world.block_on(async {
            let answers = start(&world);
            let raft_id = founded(&answers).await;
            assert!(vote(&answers, raft_id, 100, 2).await.unwrap());
            world.power_cut("a");
            let answers = start(&world);
            assert_eq!(standing(&answers).await.raft_id, raft_id);
            let again = loop {
                match vote(&answers, raft_id, 100, 3).await {
                    Ok(granted) => break granted,
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            };
            assert!(!again, "seed {seed}: it has voted for another in this term");
        });
    }
}

#[test]
fn a_vote_that_cannot_be_flushed_is_not_granted() {
    let world = SimWorld::new(11);
    world.block_on(async {
        let answers = start(&world);
        let raft_id = founded(&answers).await;
        world
            .disk("a")
            .fail_path("vote", Operation::Sync, Fault::Eio, 1);
        assert!(!vote(&answers, raft_id, 100, 2).await.unwrap_or(false));
    });
}

#[test]
fn a_request_for_a_former_member_is_refused() {
    let world = SimWorld::new(12);
    world.block_on(async {
        let answers = start(&world);
        let raft_id = founded(&answers).await;
        let refusal = vote(&answers, raft_id + 1, 100, 2).await.unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::WrongMember);
    });
}

#[test]
fn an_accepted_record_is_held_after_a_power_cut_and_no_other_is_taken() {
    let world = SimWorld::new(13);
    world.block_on(async {
        let answers = start(&world);
        let raft_id = standing(&answers).await.raft_id;
        let members = vec![
            (raft_id, "a:1".into()),
            (2, "b:1".into()),
            (3, "c:1".into()),
        ];
        let record = |id: u8| Founding {
            cluster_id: Uuid([id; 16]).into(),
            members: members.clone(),
        };
        let offer = |id: u8| wire::encode(&record(id)).unwrap();
        let offered: Offered = ask(&answers, offer(1)).await.unwrap();
        assert_eq!(offered.refused, None);
        world.power_cut("a");
        let answers = start(&world);
        assert_eq!(standing(&answers).await.founding, Some(record(1)));
        let offered: Offered = ask(&answers, offer(2)).await.unwrap();
        assert!(offered.refused.is_some(), "a second record in one life");
        let offered: Offered = ask(&answers, offer(1)).await.unwrap();
        assert_eq!(offered.refused, None, "the same one is accepted again");
    });
}
