//! Clients that come back: whatever API is gone, another one is asked, with the same key.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, TestHub, exchange, http},
    scripted::Case,
};

/// A plan that has no end by then is stuck.
const PLAN_LIMIT: Duration = Duration::from_mins(5);
/// An API that does not answer by then is left for another one.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Before the same is asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at a plan: hundreds of clients look.
const LOOK: Duration = Duration::from_secs(1);

/// The APIs that there are at the moment.
#[derive(Clone)]
pub struct Doors {
    http: Client,
    key: String,
    urls: Arc<Mutex<Vec<String>>>,
}

/// A plan that has ended.
pub struct Ended {
    pub case: Case,
    /// `GET /v1/plan/{id}` at its end.
    pub answer: Answer,
    /// From the first request to the end that was seen.
    pub took: Duration,
}

impl Doors {
    /// The APIs of a hub.
    pub fn of(hub: &TestHub) -> Self {
        let doors = Self { http: http(), key: hub.environment()["TOKENHUB_CLIENT_KEY"].clone(), urls: Arc::default() };
        doors.changed(hub);
        doors
    }

    /// Some died or came.
    pub fn changed(&self, hub: &TestHub) {
        *self.urls.lock().unwrap() = hub.apis.iter().map(|(_, url)| url.clone()).collect();
    }

    fn one(&self, turn: usize) -> Option<String> {
        let urls = self.urls.lock().unwrap();
        urls.get(turn % urls.len().max(1)).cloned()
    }

    /// Asks until somebody answers who is well.
    async fn insist(&self, turn: usize, method: Method, path: &str, asked: Option<(&Value, &str, &str)>) -> Answer {
        for turn in turn.. {
            if let Some(url) = self.one(turn) {
                let mut request = self.http.request(method.clone(), format!("{url}{path}")).bearer_auth(&self.key);
                if let Some((body, key, durability)) = asked {
                    request = request.json(body).header("idempotency-key", key);
                    request = request.header("x-tokenhub-durability", durability);
                }
                match exchange(request.timeout(ANSWER_LIMIT)).await {
                    Ok(answer) if answer.status.as_u16() < 500 => return answer,
                    Ok(_) | Err(_) => {}
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        unreachable!("turns do not end")
    }

    /// Begins a plan in the background and waits for its end.
    pub async fn run(self, case: Case, durability: &'static str) -> Ended {
        let begun = Instant::now();
        let ended = tokio::time::timeout(PLAN_LIMIT, self.until_ended(case, durability));
        let answer = ended.await.unwrap_or_else(|_| panic!("{case:?} is stuck"));
        Ended { case, answer, took: begun.elapsed() }
    }

    async fn until_ended(&self, case: Case, durability: &str) -> Answer {
        let mut body = case.body();
        body["background"] = json!(true);
        let key = format!("key of {}", case.number());
        let accepted = self.insist(case.number(), Method::POST, "/v1/plan", Some((&body, &key, durability))).await;
        assert!([200, 202].contains(&accepted.status.as_u16()), "{case:?}: {}", accepted.text);
        let path = format!("/v1/plan/{}", accepted.body["id"].as_str().unwrap());
        for turn in case.number().. {
            tokio::time::sleep(LOOK).await;
            let seen = self.insist(turn, Method::GET, &path, None).await.expect(200);
            if !["pending", "running"].contains(&seen.body["status"].as_str().unwrap()) {
                return seen;
            }
        }
        unreachable!("turns do not end")
    }
}
