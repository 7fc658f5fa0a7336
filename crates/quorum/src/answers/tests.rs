//! Who asks too early, too late or nonsense is told so.

use super::*;
use crate::wire::PeerRefusal;
use skein_types::Uuid;

async fn refusal(answers: &PeerAnswers, request: Bytes) -> PeerRefusal {
    let answer = answers.answer(request).await;
    wire::answer::<Standing>(&answer).unwrap_err()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

#[test]
fn a_node_whose_identity_is_not_read_says_nothing_of_itself() {
    run(async {
        let refused = refusal(&PeerAnswers::new(), wire::who()).await;
        assert_eq!(refused.reason, RefusalReason::NotReady);
    });
}

#[test]
fn what_is_no_envelope_is_refused_with_the_reason() {
    run(async {
        let answers = PeerAnswers::new();
        let mut bytes = wire::who().to_vec();
        bytes.push(0);
        let refused = refusal(&answers, bytes.into()).await;
        assert_eq!(refused.reason, RefusalReason::Malformed);
        assert!(refused.text.contains("bytes behind it"), "{refused}");
        assert!(
            refusal(&answers, Bytes::new())
                .await
                .text
                .contains("ends early")
        );
    });
}

#[test]
fn a_forming_node_answers_questions_and_refuses_raft_until_it_belongs_to_a_cluster() {
    run(async {
        let answers = PeerAnswers::new();
        let (questions, mut asked) = mpsc::channel(1);
        answers.set_role(Role::Forming(questions));
        let offer = Founding {
            cluster_id: Uuid([1; 16]).into(),
            members: vec![(1, "a:1".into())],
        };
        let offer = wire::encode(&offer).unwrap();
        let (answer, ()) = tokio::join!(answers.answer(offer), async {
            let Some(Question::Offer(founding, answer)) = asked.recv().await else {
                panic!("no offer");
            };
            assert_eq!(founding.members.len(), 1);
            answer.send(Offered { refused: None }).unwrap();
        });
        assert_eq!(wire::answer::<Offered>(&answer).unwrap().refused, None);

        let request = openraft::raft::VoteRequest::new(crate::types::RaftVote::new(1, 2), None);
        let vote = wire::encode(&wire::Ballot { target: 1, request }).unwrap();
        assert_eq!(
            refusal(&answers, vote).await.reason,
            RefusalReason::NotReady
        );
        drop(asked);
        assert_eq!(
            refusal(&answers, wire::who()).await.reason,
            RefusalReason::NotReady
        );
    });
}
