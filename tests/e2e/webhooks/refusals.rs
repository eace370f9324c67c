//! Where no webhook goes, and what is refused with the plan.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{PATIENCE, SECRET, ask, deliveries, installation, on_its_way, plan, refused};
use crate::harness::{Disturbance, Process, TestHub, binary, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_public_is_refused_with_the_plan_and_a_name_of_one_is_given_up() {
    let hub = installation().temporal_off().environment("TOKENHUB_WEBHOOK_ALLOWED_HOSTS", "127.0.0.1:1").start().await;
    for host in [
        "127.0.0.1:2",
        "127.1",
        "2130706433",
        "10.0.0.7",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::ffff:10.0.0.7]",
        "[fd00::1]",
        "metadata.google.internal",
    ] {
        let told = refused(&hub, &json!({"url": format!("https://{host}/hook")}), "webhook.url").await;
        assert!(told.contains("no public address"), "{host}: {told}");
    }
    let told = refused(&hub, &json!({"url": "http://hooks.example/hook"}), "webhook.url").await;
    assert!(told.contains("https://"), "{told}");
    assert_eq!(hub.provider.count(), 0, "nothing is bought for a plan that is refused");

    // What stands behind a name is seen when it is called, and then nothing is connected.
    let (listener, connections) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let port = listener.local_addr().unwrap().port();
    let counted = Arc::clone(&connections);
    let counting = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let id = ask(&hub, &json!({"url": format!("https://localhost:{port}/hook")}), &[]).await;
    let dead = on_its_way(&hub, &id, "dead").await;
    assert_eq!(dead["last_error"], "localhost resolves to no public address", "{dead}");
    assert_eq!((&dead["tries"], connections.load(Ordering::Relaxed)), (&json!(1), 0));
    counting.abort();
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_makes_no_sense_is_refused_by_name() {
    let hub = installation().temporal_off().start().await;
    let url = "http://127.0.0.1:9/hook";
    for (webhook, param) in [
        (json!(url), "webhook"),
        (json!({"events": ["plan.failed"]}), "webhook.url"),
        (json!({"url": url, "secret": "whsec_x"}), "webhook.secret"),
        (json!({"url": url, "events": ["plan.started"]}), "webhook.events[0]"),
        (json!({"url": "hooks.example"}), "webhook.url"),
        (json!({"url": "http://user:word@127.0.0.1:9"}), "webhook.url"),
    ] {
        refused(&hub, &webhook, param).await;
    }
    assert_eq!(deliveries(&hub, "").await["data"], json!([]));
    hub.finish(Disturbance::None).await;

    let without = TestHub::builder().temporal_off().start().await;
    let told = refused(&without, &json!({"url": "https://hooks.example"}), "webhook").await;
    assert!(told.contains("TOKENHUB_WEBHOOK_SECRET"), "{told}");
    without.post("/v1/plan", &plan(&Value::Null, &[])).await.expect(200);

    for wrong in ["hunter2", "whsec_c2hvcnQ=", &format!("{SECRET} whsec_%%")] {
        let mut environment = without.environment().clone();
        environment.insert("TOKENHUB_WEBHOOK_SECRET".to_owned(), wrong.to_owned());
        let mut api = Process::start("wrong-secret", &binary("tokenhub-api"), &[], &environment, without.dir());
        assert!(until_ended(&mut api).await, "it starts with the secret {wrong}");
        let said = api.output();
        assert!(said.contains("webhooks.secret") && said.contains("TOKENHUB_WEBHOOK_SECRET"), "{said}");
        assert!(!said.contains(wrong), "{said}");
    }
    without.finish(Disturbance::None).await;
}

async fn until_ended(process: &mut Process) -> bool {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if process.exited() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The first Python program of the document.
fn documented_receiver() -> String {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/webhooks.md");
    let text = fs::read_to_string(document).unwrap();
    let (_, program) = text.split_once("```python\n").unwrap();
    program.split_once("```").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_receiver_takes_what_is_genuine_and_nothing_else() {
    let hub = installation().temporal_off().start().await;
    let program = hub.dir().join("receiver.py");
    fs::write(&program, documented_receiver()).unwrap();
    let python =
        std::env::var_os("TOKENHUB_TEST_PYTHON").expect("TOKENHUB_TEST_PYTHON names a Python: use `make test`");
    let environment = [("TOKENHUB_WEBHOOK_SECRET", SECRET), ("PORT", "0")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    let receiver =
        Process::start("receiver", &PathBuf::from(python), &[program.display().to_string()], &environment, hub.dir());
    let port = eventually("the receiver listens", PATIENCE, || async {
        Some(receiver.output().lines().next()?.strip_prefix("listening on port ")?.to_owned())
    })
    .await;
    let url = format!("http://127.0.0.1:{port}/hook");
    let forged = crate::harness::http().post(&url).header("webhook-id", "msg_1").header("webhook-timestamp", "1");
    assert_eq!(forged.header("webhook-signature", "v1,AAAA").body("{}").send().await.unwrap().status(), 400);
    let id = ask(&hub, &json!({"url": url}), &[]).await;
    on_its_way(&hub, &id, "delivered").await;
    let said = receiver.output();
    assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), [format!("plan.completed {id}")], "{said}");
    drop(receiver);
    hub.finish(Disturbance::None).await;
}
