//! Controllers that take requests, and others, in paused time.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;

const OWN: u64 = 1;

/// Until a request is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a controller behaves.
#[derive(Clone, Copy)]
enum Is {
    /// No connection comes about, and that shows after this.
    Away(Duration),
    /// It answers with this code.
    Answering(ErrorCode),
    /// The connection is lost when it has the request.
    Dying,
}

/// Controllers by their Raft ids, and who was reached and asked, in ms since the beginning.
struct World {
    controllers: Vec<(u64, Is)>,
    begun: Instant,
    reached: Mutex<Vec<(u64, u128)>>,
    asked: Mutex<Vec<(u64, u128)>>,
}

impl World {
    fn new(controllers: &[(u64, Is)]) -> Self {
        Self {
            controllers: controllers.to_vec(),
            begun: Instant::now(),
            reached: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    fn is(&self, controller: &ActiveController) -> Is {
        let mut controllers = self.controllers.iter();
        let found = controllers.find(|(id, _)| *id == controller.raft_id);
        found.unwrap().1
    }

    fn note(&self, list: &Mutex<Vec<(u64, u128)>>, controller: &ActiveController) {
        let elapsed = self.begun.elapsed().as_millis();
        list.lock().push((controller.raft_id, elapsed));
    }

    async fn run(&self, leaders: &watch::Sender<Option<ActiveController>>) -> Option<Outcome> {
        let deadline = self.begun + PATIENCE;
        until_taken(leaders.subscribe(), OWN, deadline, self).await
    }
}

impl Way for World {
    async fn reach(&self, controller: &ActiveController) -> Result<(), Refusal> {
        self.note(&self.reached, controller);
        match self.is(controller) {
            Is::Away(after) => {
                sleep(after).await;
                Err(refusal("nobody is there"))
            }
            Is::Answering(_) | Is::Dying => Ok(()),
        }
    }

    async fn ask(&self, controller: &ActiveController) -> Outcome {
        self.note(&self.asked, controller);
        match self.is(controller) {
            Is::Answering(code) => Ok(EnvelopeResponse {
                error_code: code.code(),
                ..Default::default()
            }),
            Is::Away(_) | Is::Dying => Err(refusal("the connection was lost")),
        }
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal::new(ErrorCode::NotController, message)
}

fn leader(raft_id: u64, term: u64) -> Option<ActiveController> {
    Some(ActiveController {
        term,
        raft_id,
        address: format!("node-{raft_id}:9192"),
    })
}

fn code(outcome: Option<Outcome>) -> ErrorCode {
    ErrorCode::from_code(outcome.unwrap().unwrap().error_code)
}

#[tokio::test(start_paused = true)]
async fn what_a_controller_may_have_decided_is_not_sent_again() {
    let leaders = watch::Sender::new(leader(2, 1));
    let answers = [
        Is::Answering(ErrorCode::None),
        Is::Answering(ErrorCode::InvalidRequest),
        Is::Answering(ErrorCode::UnknownServerError),
        Is::Dying,
    ];
    for is in answers {
        let world = World::new(&[(2, is)]);
        let outcome = world.run(&leaders).await.unwrap();
        assert_eq!(outcome.is_err(), matches!(is, Is::Dying));
        assert_eq!(*world.asked.lock(), [(2, 0)]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_asked_again_after_ever_longer_pauses_and_no_longer_than_allowed() {
    let leaders = watch::Sender::new(leader(2, 1));
    for none in [ErrorCode::NotController, ErrorCode::BrokerNotAvailable] {
        let world = World::new(&[(2, Is::Answering(none))]);
        assert_eq!(code(world.run(&leaders).await), none);
        assert_eq!(world.begun.elapsed(), PATIENCE);
        let asked: Vec<_> = world.asked.lock().iter().map(|(_, at)| *at).collect();
        assert_eq!(asked[..8], [0, 10, 30, 70, 150, 310, 510, 710]);
        assert!((150..160).contains(&asked.len()), "{}", asked.len());
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_reached_has_decided_nothing() {
    let leaders = watch::Sender::new(leader(2, 1));
    let world = World::new(&[(2, Is::Away(Duration::from_millis(1)))]);
    let refusal = world.run(&leaders).await.unwrap().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NotController);
    assert!(world.begun.elapsed() >= PATIENCE);
    assert!(world.asked.lock().is_empty());
    assert!(world.reached.lock().len() > 100);
}

#[tokio::test(start_paused = true)]
async fn a_new_controller_is_asked_at_once() {
    let former = [
        Is::Answering(ErrorCode::NotController),
        // Nobody hears from it at all.
        Is::Away(Duration::MAX / 4),
        Is::Away(Duration::from_millis(1)),
    ];
    for is in former {
        let leaders = watch::Sender::new(leader(2, 1));
        let world = World::new(&[(2, is), (3, Is::Answering(ErrorCode::None))]);
        let elect = async {
            sleep(Duration::from_millis(5_001)).await;
            leaders.send_replace(None);
            sleep(Duration::from_millis(600)).await;
            leaders.send_replace(leader(3, 2));
        };
        let (outcome, ()) = tokio::join!(world.run(&leaders), elect);
        assert_eq!(code(outcome), ErrorCode::None);
        assert_eq!(world.asked.lock().last(), Some(&(3, 5_601)));
        let late = world
            .reached
            .lock()
            .iter()
            .filter(|(_, at)| *at > 5_001)
            .count();
        assert_eq!(late, 1, "who is the controller no more is left alone");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_controller_in_a_new_term_is_asked_at_once() {
    let leaders = watch::Sender::new(leader(2, 1));
    let world = World::new(&[(2, Is::Answering(ErrorCode::NotController))]);
    let elect = async {
        sleep(Duration::from_millis(1_001)).await;
        leaders.send_replace(leader(2, 2));
        sleep(Duration::from_millis(100)).await;
        leaders.send_replace(leader(OWN, 3));
    };
    let (outcome, ()) = tokio::join!(world.run(&leaders), elect);
    assert!(outcome.is_none(), "this node is the controller now");
    assert_eq!(world.begun.elapsed().as_millis(), 1_101);
    let asked: Vec<_> = world.asked.lock().iter().map(|(_, at)| *at).collect();
    let late: Vec<_> = asked.into_iter().filter(|at| *at > 1_000).collect();
    assert_eq!(late, [1_001, 1_011, 1_031, 1_071], "and in short pauses");
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_nobody_is_asked() {
    let leaders = watch::Sender::new(None);
    let world = World::new(&[]);
    assert!(world.run(&leaders).await.is_none());
    assert_eq!(world.begun.elapsed(), PATIENCE);
    // This node is one, or the quorum has ended here.
    leaders.send_replace(leader(OWN, 1));
    let world = World::new(&[]);
    assert!(world.run(&leaders).await.is_none());
    assert!(world.begun.elapsed().is_zero());
    let world = World::new(&[(2, Is::Answering(ErrorCode::NotController))]);
    leaders.send_replace(leader(2, 1));
    let leaders_gone = leaders.subscribe();
    drop(leaders);
    let outcome = until_taken(leaders_gone, OWN, world.begun + PATIENCE, &world).await;
    assert_eq!(code(outcome), ErrorCode::NotController);
    assert!(world.begun.elapsed() < Duration::from_millis(20));
}
