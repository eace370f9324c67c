//! A scripted provider inside a test's own process, on a thread of its own.
//!
//! The thread keeps it answering while a test blocks its own runtime, as one does that waits for a child process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::access::Demands;
use crate::calls::SeenCall;
use crate::rule::Rule;
use crate::script::Script;
use crate::server::{DemoServer, Face};

/// A running scripted provider; it stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ScriptedProvider {
    script: Script,
    base_url: String,
    // Dropping the guard ends the server.
    _running: Arc<DropGuard>,
}

impl ScriptedProvider {
    /// Starts one on a free loopback port.
    ///
    /// # Panics
    /// When it cannot be started: whatever is tested against it cannot be tested then.
    #[expect(clippy::expect_used, reason = "only tests and benches start one, and they end here without it")]
    pub async fn start() -> Self {
        Self::try_start().await.expect("a scripted provider on a loopback port")
    }

    /// Like [`Self::start`], with the failure as a value.
    pub async fn try_start() -> io::Result<Self> {
        let script = Script::default();
        let stop = CancellationToken::new();
        let (started, address) = oneshot::channel();
        let (face, stopped) = (Face::Scripted(script.clone()), stop.clone());
        std::thread::Builder::new().name("scripted-provider".to_owned()).spawn(move || run(face, stopped, started))?;
        let base_url = address.await.map_err(io::Error::other)??;
        Ok(Self { script, base_url, _running: Arc::new(stop.drop_guard()) })
    }

    /// Its base URL, without `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sets the models that `GET /v1/models` lists.
    pub fn models<T: Into<String>>(&self, models: impl IntoIterator<Item = T>) {
        self.script.set_models(models);
    }

    /// Adds a rule before the ones there are.
    pub fn script(&self, rule: Rule) {
        self.script.add(rule);
    }

    /// Forgets every rule.
    pub fn clear_script(&self) {
        self.script.clear();
    }

    /// Demands this of every request from now on.
    pub fn demand(&self, demands: Demands) {
        self.script.demand(demands);
    }

    /// Every request since the last reset that asked for models, or for a path that there is not.
    pub fn lookups(&self) -> Vec<SeenCall> {
        self.script.lookups()
    }

    /// Every look at a response in the background, and every withdrawal of one, since the last reset.
    pub fn looks(&self) -> Vec<SeenCall> {
        self.script.looks()
    }

    /// Forgets every response in the background.
    pub fn forget_responses(&self) {
        self.script.forget_responses();
    }

    /// Ends every response that is worked on in the background, however long it was to take.
    pub fn end_responses(&self) {
        self.script.end_responses();
    }

    /// Cuts the connection of so many looks from now on.
    pub fn cut_looks(&self, count: u32) {
        self.script.cut_looks(count);
    }

    /// Every call since the last reset, in order of arrival.
    pub fn calls(&self) -> Vec<SeenCall> {
        self.script.calls()
    }

    /// How many calls there were since the last reset.
    pub fn count(&self) -> u64 {
        self.script.count()
    }

    /// How many of them are as `wanted`.
    pub fn count_where(&self, wanted: impl Fn(&SeenCall) -> bool) -> usize {
        self.calls().iter().filter(|call| wanted(call)).count()
    }

    /// Forgets the calls and starts every rule from its first reply again.
    pub fn reset_counts(&self) {
        self.script.reset_counts();
    }

    /// Waits until `reached` holds for the calls; false when it did not within `limit`.
    pub async fn wait_until(&self, limit: Duration, reached: impl Fn(&[SeenCall]) -> bool) -> bool {
        const LOOK_EVERY: Duration = Duration::from_millis(2);
        let end = Instant::now() + limit;
        while !reached(&self.calls()) {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}

fn run(face: Face, stop: CancellationToken, started: oneshot::Sender<io::Result<String>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody to tell when the caller is gone.
            let _ = started.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        match DemoServer::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), face).await {
            Ok(server) => {
                let _ = started.send(Ok(server.base_url()));
                server.serve(stop).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
}
