//! Starts that Temporal carried out although their caller was told nothing: whoever gets the claim buys, alone.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokenhub_demo::{Reply, Rule};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{COMPLETIONS, RETURN_PATIENCE, assert_answered, assert_superseded, builder, chat, paid, wait_until_quiet};
use crate::harness::{Answer, Disturbance, Operator, TestHub, eventually, exchange};

/// A server whose answers can be held back while requests go on reaching it.
struct Mute {
    address: String,
    is_muted: watch::Sender<bool>,
}

impl Mute {
    async fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (is_muted, muted) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                tokio::spawn(relay(near, far, muted.clone()));
            }
        });
        Self { address, is_muted }
    }

    fn set(&self, is_muted: bool) {
        self.is_muted.send_replace(is_muted);
    }
}

/// Either end that closes ends the connection.
async fn relay(near: TcpStream, far: TcpStream, mut muted: watch::Receiver<bool>) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let requests = async move { tokio::io::copy(&mut near_read, &mut far_write).await.map(|_| ()) };
    let answers = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = far_read.read(&mut buffer).await?;
            // A test that is over has dropped the switch.
            if length == 0 || muted.wait_for(|is_muted| !is_muted).await.is_err() {
                return std::io::Result::Ok(());
            }
            near_write.write_all(&buffer[..length]).await?;
        }
    };
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
    }
}

/// An installation whose second API reaches Temporal through a mute.
async fn hub() -> (TestHub, Mute) {
    let mut hub = builder().start().await;
    let mute = Mute::before(hub.temporal.address()).await;
    hub.start_api_with(&[("TEMPORAL_ADDRESS", &mute.address)]).await;
    wait_until_closed(&hub).await;
    (hub, mute)
}

async fn wait_until_closed(hub: &TestHub) {
    eventually("durable service through the mute", RETURN_PATIENCE, || async {
        let health = exchange(hub.request_to(1, Method::GET, "/healthz?verbose")).await.ok()?;
        (health.body["temporal"]["breaker"]["state"] == "closed").then_some(())
    })
    .await;
}

async fn ask(hub: &TestHub, body: &Value, durability: &str) -> Answer {
    let request = hub.request_to(1, Method::POST, COMPLETIONS).header("x-tokenhub-durability", durability).json(body);
    exchange(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_arrived_without_an_acknowledgement_keeps_its_run_and_the_caller_waits_for_it() {
    let (hub, mute) = hub().await;
    let work = Duration::from_secs(3);
    hub.provider.script(Rule::any([Reply::echo().delay_ms(3_000)]).containing("slow"));
    for (text, durability) in [("slow", "preferred"), ("quick", "preferred"), ("slow and required", "required")] {
        mute.set(true);
        let answer = ask(&hub, &chat(text), durability).await;
        mute.set(false);
        assert_answered(&hub, answer, text, "durable", work);
        wait_until_closed(&hub).await;
    }
    wait_until_quiet(&Operator::connect(&hub.temporal).await).await;
    assert_eq!(hub.provider.count(), 3);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_nobody_acknowledged_and_nobody_took_wakes_up_to_a_claim_that_is_taken() {
    let (mut hub, mute) = hub().await;
    hub.workers.remove(0).kill();
    mute.set(true);
    let answer = ask(&hub, &chat("late"), "preferred").await;
    let run_id = answer.header("x-tokenhub-run-id").to_owned();
    assert_answered(&hub, answer, "late", "none", Duration::ZERO);
    let refused = ask(&hub, &chat("late and required"), "required").await.expect(503);
    assert_ne!(refused.header("retry-after"), "");

    hub.start_worker(&[]);
    mute.set(false);
    let operator = Operator::connect(&hub.temporal).await;
    assert_superseded(&operator, &run_id).await;
    wait_until_quiet(&operator).await;
    assert_eq!((paid(&hub, "late"), paid(&hub, "late and required")), (1, 0));
    // Both starts arrived: the withdrawn one found its run ended.
    assert_eq!(operator.list("ExecutionStatus = 'Completed'").await.len(), 2);
    hub.finish(Disturbance::None).await;
}
