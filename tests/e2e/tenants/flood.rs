//! One tenant submits far more than the worker can do at once; another one's plan begins nearly as soon as if it were alone.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use tokenhub_demo::{Reply, Rule};
use tokio::task::JoinSet;

use super::{ACME, ZETA, get_as, id_of, installation, vote};
use crate::harness::{Disturbance, TestHub, eventually, exchange};

const PATIENCE: Duration = Duration::from_mins(2);
/// Clients of the flood that submit at the same time.
const SUBMITTERS: usize = 4;

struct Flood {
    /// Votes of three that one tenant submits.
    plans: usize,
    /// Calls that the worker makes at a time.
    slots: usize,
    /// What a call takes on average.
    call_ms: u64,
    /// How much later than in an idle system the other tenant's plan may make its first call.
    later: Duration,
}

/// From its submission to its first call, and to its end.
struct Took {
    first_call: Duration,
    end: Duration,
}

impl Flood {
    /// What stands in line takes the worker at least this long.
    fn lasts(&self) -> Duration {
        let calls = u64::try_from(self.plans * 3).unwrap();
        Duration::from_millis(calls * self.call_ms / u64::try_from(self.slots).unwrap())
    }

    async fn start(&self) -> TestHub {
        let hub = installation()
            .environment("TOKENHUB_WORKER_ACTIVITY_SLOTS", &self.slots.to_string())
            // A task of a workflow that takes a loaded machine too long is given to somebody once more.
            .environment("TOKENHUB_WORKER_WORKFLOW_SLOTS", "8")
            .start()
            .await;
        // Places that are free all at once would be free to nobody until then.
        let calls = u64::try_from(self.plans * 3).unwrap();
        let delays = (0..calls).map(|call| self.call_ms / 2 + self.call_ms * (call * 37 % 100) / 100);
        hub.provider.script(Rule::any(delays.map(|delay_ms| Reply::text("blue").delay_ms(delay_ms))));
        hub
    }

    /// Every plan of the flood is accepted when this returns.
    async fn submit(&self, hub: &TestHub) {
        let mut submitters = JoinSet::new();
        for submitter in 0..SUBMITTERS {
            let of_submitter = (submitter..self.plans).step_by(SUBMITTERS);
            let requests: Vec<_> =
                of_submitter.map(|number| submission(hub, ACME, &format!("flood {number}"))).collect();
            submitters.spawn(async move {
                for request in requests {
                    accepted(request).await;
                }
            });
        }
        submitters.join_all().await;
    }

    async fn run(&self) {
        let hub = self.start().await;
        let idle = single_plan(&hub, "alone").await;
        let began = Instant::now();
        self.submit(&hub).await;
        let accepted = began.elapsed();
        let beside = single_plan(&hub, "beside the flood").await;
        let open = get_as(&hub, ACME, "/v1/plan?status=pending&limit=200").await.expect(200);
        let unstarted = open.body["data"].as_array().unwrap().len();
        let calls = hub.provider.calls().iter().filter(|call| call.last_text().contains("flood ")).count();
        eprintln!(
            "flood: {} plans accepted in {accepted:.1?}, {:.0?} of work; alone {:.1?} and {:.1?}, beside it {:.1?} and {:.1?}; \
             {calls} calls of the flood were made by then, {unstarted} of its plans had not begun",
            self.plans,
            self.lasts(),
            idle.first_call,
            idle.end,
            beside.first_call,
            beside.end
        );
        assert!(beside.first_call < idle.first_call + self.later, "the first call came after {:?}", beside.first_call);
        // By age alone nothing of the flood would be left, however slow the machine is.
        let left = (self.plans * 3).saturating_sub(calls);
        assert!(left > 5 * self.slots, "{left} calls of the flood were left when the plan ended");
        hub.finish(Disturbance::None).await;
    }
}

/// A database of one file has more to do than it can, too; whoever is told so comes again.
async fn accepted(request: RequestBuilder) {
    loop {
        let answer = exchange(request.try_clone().unwrap()).await.unwrap();
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            answer.expect(202);
            return;
        }
        assert_eq!(answer.body["code"], "store_unavailable", "{}", answer.text);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn submission(hub: &TestHub, key: &str, question: &str) -> RequestBuilder {
    let mut body = vote(question);
    body["background"] = json!(true);
    hub.request_as(key, Method::POST, "/v1/plan").header("x-tokenhub-durability", "required").json(&body)
}

/// One plan of the other tenant, in the background as those of the flood are.
async fn single_plan(hub: &TestHub, question: &str) -> Took {
    let began = Instant::now();
    let id = id_of(&exchange(submission(hub, ZETA, question)).await.unwrap().expect(202));
    eventually("the plan calls", PATIENCE, || async {
        hub.provider.calls().iter().any(|call| call.last_text().contains(question)).then_some(())
    })
    .await;
    let first_call = began.elapsed();
    let plan = eventually("the plan ends", PATIENCE, || async {
        let plan = get_as(hub, ZETA, &format!("/v1/plan/{id}?wait=10s")).await.expect(200);
        (!["pending", "running"].contains(&plan.body["status"].as_str().unwrap())).then_some(plan)
    })
    .await;
    assert_eq!((&plan.body["status"], &plan.body["durable"]), (&json!("completed"), &json!(true)), "{}", plan.text);
    Took { first_call, end: began.elapsed() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_does_not_wait_for_a_hundred_of_another_tenant() {
    // Four times the two seconds that are promised.
    Flood { plans: 100, slots: 8, call_ms: 1_500, later: Duration::from_secs(8) }.run().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make chaos"]
async fn a_plan_does_not_wait_for_a_thousand_of_another_tenant() {
    Flood { plans: 1_000, slots: 20, call_ms: 2_000, later: Duration::from_secs(2) }.run().await;
}
