//! What the database says while an installation runs: which answers are safe, whose a call was.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use tokenhub_demo::{Finished, SeenCall};
use tokenhub_domain::{AttemptId, RunId, TenantId, Use};
use tokenhub_store::{LedgerRow, LedgerState, RequestLogRow, Store, Waste};

use crate::harness::{Process, TestHub, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// A second pair of eyes on the database of a hub.
pub struct Evidence {
    store: Store,
    spools: PathBuf,
}

impl Evidence {
    /// Opens the database of `hub`.
    pub async fn of(hub: &TestHub) -> Self {
        let data = hub.dir().join("data");
        let in_data_dir = format!("sqlite://{}?mode=rwc", data.join("tokenhub.db").display());
        let url = hub.environment().get("DATABASE_URL").unwrap_or(&in_data_dir);
        Self { store: Store::open(url).await.unwrap(), spools: data.join("spool") }
    }

    async fn row_of(&self, call: &SeenCall) -> Option<LedgerRow> {
        let attempt = AttemptId::new(call.attempt_id.clone()?);
        self.store.ledger_rows().all().await.unwrap().into_iter().find(|row| row.attempt == attempt)
    }

    /// The run of a call.
    pub async fn run_of(&self, call: &SeenCall) -> RunId {
        eventually("the call is in the ledger", PATIENCE, || async { Some(self.row_of(call).await?.run_id) }).await
    }

    /// What became of the answer to a call, once that is known.
    pub async fn waste_of(&self, call: &SeenCall) -> Waste {
        eventually("the call is settled", PATIENCE, || async { self.row_of(call).await?.waste }).await
    }

    /// Every row, once so many attempts were made and all of them have ended.
    pub async fn ended(&self, attempts: usize) -> Vec<LedgerRow> {
        eventually("every attempt has ended", PATIENCE, || async {
            let rows = self.store.ledger_rows().all().await.unwrap();
            let ended = rows.iter().filter(|row| matches!(row.state, LedgerState::Settled | LedgerState::Void));
            (ended.count() == attempts && rows.len() == attempts).then_some(rows)
        })
        .await
    }

    /// Every row, once no attempt is on its way: living processes have adopted those of dead ones.
    pub async fn at_rest(&self) -> Vec<LedgerRow> {
        eventually("no attempt is on its way", PATIENCE, || async {
            let rows = self.store.ledger_rows().all().await.unwrap();
            let is_open = |row: &LedgerRow| matches!(row.state, LedgerState::Reserved | LedgerState::Sent);
            (!rows.iter().any(is_open)).then_some(rows)
        })
        .await
    }

    /// What a bounded run has used or taken.
    pub async fn used_of(&self, run_id: &str) -> Use {
        self.store.budgets().used(&TenantId::default_tenant(), &RunId::from(run_id)).await.unwrap()
    }

    /// The newest hundred lines of the log.
    pub async fn log(&self, tenant: &TenantId) -> Vec<RequestLogRow> {
        self.newest_of_log(tenant, 100).await
    }

    /// So many of the newest lines of the log.
    pub async fn newest_of_log(&self, tenant: &TenantId, count: u64) -> Vec<RequestLogRow> {
        self.store.request_log().list(tenant, None, count).await.unwrap()
    }

    /// Waits until the journal has every answer that the provider gave.
    pub async fn wait_until_answers_are_journaled(&self, hub: &TestHub) {
        eventually("every answer is journaled", PATIENCE, || async {
            for call in hub.provider.calls().iter().filter(|call| call.finished == Finished::Answered) {
                let row = self.row_of(call).await?;
                self.store.journal().get(&row.tenant, &row.step_key).await.unwrap()?.entry?;
            }
            Some(())
        })
        .await;
    }

    /// The place in `processes` of the process that made a call: it holds the spool that announced it.
    pub async fn sender_of(&self, call: &SeenCall, processes: &[Process]) -> usize {
        let row = eventually("the call is in the ledger", PATIENCE, || self.row_of(call)).await;
        let spool = self.spools.join(format!("{}.jsonl", row.instance)).canonicalize().unwrap();
        let holds = |process: &Process| {
            let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
            files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == spool))
        };
        processes.iter().position(holds).expect("one of the processes made the call")
    }
}

/// Asserts that the sums of the list of a plan's steps are those of the plan, which tells more.
#[track_caller]
pub fn assert_same_usage(steps: &Value, plan: &Value) {
    for (name, sum) in steps["usage"].as_object().unwrap() {
        assert_eq!(*sum, plan["usage"][name], "{name}: {steps:#}\n{plan:#}");
    }
}
