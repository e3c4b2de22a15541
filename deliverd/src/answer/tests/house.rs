//! The whole: its doors, its beginning, its end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_socket_answers_its_own_role_only() {
    let world = world().await;
    let order = world.client::<StoreControlEdge>("smtpd");
    let short = Duration::from_millis(300);
    let status = order
        .call(Context::default(), short, StoreControlRequest::ShowStatus)
        .await;
    assert_eq!(
        status.map(|answered| answered.answer),
        Err(CallError::Unavailable)
    );
    let relay = world.client::<DeliveryEdge>("relayd");
    assert!(
        relay
            .call(
                Context::default(),
                WITHIN,
                RelayRequest::Delivery(DeliveryRequest::OpenMessage { transaction: 0 })
            )
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_own_channel_and_no_other() {
    use sys::packet::PacketSocket;
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    smtp.resolve("alice@example.test", 0).await.unwrap();
    for greeted in [false, true] {
        let bad = PacketSocket::connect(&world.socket("smtpd")).unwrap();
        if greeted {
            let hello = ipc::frame::encode(&ipc::hello::Hello::ours(SmtpEdge::NAME)).unwrap();
            bad.send(&hello, &[]).unwrap();
        }
        let _ = bad.send(&[0xff; 500], &[]);
        let mut buffer = [0; 4096];
        let closed = tokio::time::timeout(WITHIN, async {
            loop {
                match bad.recv(&mut buffer) {
                    Ok(received) if received.len == 0 => break,
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        closed.await.unwrap();
    }
    assert!(smtp.resolve("alice@example.test", 0).await.is_ok());
}

#[test]
fn a_store_that_can_never_be_opened_is_named_and_not_tried_again() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let text = store::unusable(&file.join("store")).unwrap();
    assert!(
        text.starts_with("cannot open the mail store") && text.contains("file/store"),
        "{text}"
    );
    assert_eq!(store::unusable(&temp.path().join("a/b")), None);
}

#[test]
fn work_under_way_is_finished_at_the_end_and_more_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let world = world().await;
        let house = Arc::clone(&world.house);
        let working = tokio::spawn(async move {
            house
                .work(|_| {
                    std::thread::sleep(Duration::from_millis(300));
                    Ok(7)
                })
                .await
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.house.close().await;
        assert_eq!(working.await.unwrap(), Ok(7));
        assert_eq!(
            world.house.work(|_| Ok(())).await,
            Err(Refusal::ShuttingDown)
        );
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
