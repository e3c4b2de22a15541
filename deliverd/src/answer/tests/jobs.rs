//! Whose work waits for whose.

use std::sync::mpsc;

use super::*;

/// Has so many pieces of work of `house` wait until told to go on.
struct Slow {
    go_on: Vec<mpsc::Sender<()>>,
    work: Vec<tokio::task::JoinHandle<Result<(), Refusal>>>,
}

impl Slow {
    fn begin(house: &Arc<House>, count: usize) -> Self {
        let mut slow = Self {
            go_on: Vec::new(),
            work: Vec::new(),
        };
        for _ in 0..count {
            let (go_on, told) = mpsc::channel();
            let house = Arc::clone(house);
            slow.go_on.push(go_on);
            slow.work.push(tokio::spawn(async move {
                let work = move |_: &House| told.recv().map_err(|_| Refusal::StorageFault);
                house.work(work).await
            }));
        }
        slow
    }

    async fn end(self) {
        for go_on in self.go_on {
            go_on.send(()).unwrap();
        }
        for work in self.work {
            assert_eq!(work.await.unwrap(), Ok(()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_work_is_slow_keeps_only_itself_waiting() {
    const CAROL: &str = "carol@other.test";
    let world = world().await;
    let limits = Limits {
        messages: 0,
        bytes: 0,
    };
    for order in [
        StoreControlRequest::AddTenant {
            name: "slow".into(),
            limits,
        },
        StoreControlRequest::AssignDomain {
            name: "example.test".into(),
            tenant: Some("slow".into()),
        },
        StoreControlRequest::AddDomain {
            name: "other.test".into(),
            tenant: None,
            duty: ipc::routing::Duty::Final,
        },
    ] {
        assert_eq!(world.control(order).await, Ok(StoreControlAnswer::Done));
    }
    world.add_user(CAROL, 0).await;
    let house = &world.house;
    let party = Party::Tenant("slow".into());
    let list = || SessionRequest::ListMailboxes { after: None };
    let carol = world.login(CAROL, "password").await.unwrap();
    let alice = world.login("alice@example.test", "password").await.unwrap();

    let slow = Slow::begin(&house.for_party(party), 1000);
    let party = Party::Tenant("slow".into());
    while house.jobs.waiting(&party) < 900 {
        tokio::task::yield_now().await;
    }
    assert!(carol.answer(list()).await.is_ok());
    world.deliver(&["alice@example.test"], b"x").await.unwrap();

    let waiting = house.jobs.waiting(&party);
    let answer = tokio::spawn(async move { alice.answer(list()).await });
    while house.jobs.waiting(&party) == waiting {
        assert!(!answer.is_finished());
        tokio::task::yield_now().await;
    }
    slow.end().await;
    assert!(answer.await.unwrap().is_ok());
}
