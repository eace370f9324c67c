//! Temporal and PostgreSQL are away for a while, once shorter and once longer than every timeout of a call.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokenhub_domain::TenantId;

use super::{MATRIX, installation};
use crate::{
    databases,
    evidence::Evidence,
    harness::{Disturbance, eventually},
    scripted::{Case, REFINE, STEP_MS},
};

/// What the answer may take beyond the outage.
const RETURN_LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

/// When Temporal dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// A call of each plan is on its way, and is answered during the outage.
    InFlight,
    /// A call of each plan has just been answered.
    BetweenSteps,
}

/// One plan of each program; the clients wait for their answers all the time.
async fn lose_temporal(outages: &[u64], moment: Moment) {
    let mut hub = installation().start().await;
    let mut undisturbed = Vec::new();
    for (number, program) in MATRIX.iter().enumerate() {
        undisturbed.push(Case::new(program, number).undisturbed(&hub).await);
    }
    for (round, seconds) in outages.iter().enumerate() {
        let mut running = Vec::new();
        for (place, program) in MATRIX.iter().enumerate() {
            let case = Case::new(program, (round + 1) * MATRIX.len() + place);
            let first = program.steps[0].id;
            let first_ms = match moment {
                Moment::InFlight => seconds * 500,
                Moment::BetweenSteps => STEP_MS,
            };
            case.script(&hub, |step| vec![if step == first { first_ms } else { STEP_MS }]);
            running.push((case, case.ask(&hub)));
        }
        for (case, _) in &running {
            let first = case.program.steps[0].id;
            match moment {
                Moment::InFlight => case.wait_until_in_flight(&hub, &[first]).await,
                Moment::BetweenSteps => {
                    let answered = hub.provider.wait_until(PATIENCE, |_| {
                        let calls = case.calls(&hub);
                        calls.iter().any(|(step, call)| *step == first && call.finished_at_micros.is_some())
                    });
                    assert!(answered.await, "{case:?}");
                }
            }
        }
        hub.temporal.kill();
        let killed = Instant::now();
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
        hub.temporal.start().await;
        for (place, (case, asked)) in running.into_iter().enumerate() {
            let answer = asked.await.unwrap().unwrap().answer.expect(200);
            assert_eq!(case.comparable(&answer), undisturbed[place], "{moment:?}, {seconds} s");
            case.assert_calls(&hub, &answer, &[]);
        }
        let beyond = killed.elapsed().saturating_sub(Duration::from_secs(*seconds));
        eprintln!("outage: Temporal, {moment:?}, {seconds} s: every answer {beyond:.1?} after it");
        assert!(beyond < RETURN_LIMIT, "{beyond:?}");
    }
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_steps_temporal_dies_and_every_step_is_called_once() {
    lose_temporal(&[2], Moment::BetweenSteps).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three minutes: make chaos"]
async fn calls_that_outlive_temporal_are_made_once_however_long_it_is_away() {
    lose_temporal(&[2, 10, 60], Moment::InFlight).await;
    lose_temporal(&[10, 60], Moment::BetweenSteps).await;
}

/// The cluster of the tests, which nobody else uses while this runs.
struct Cluster {
    folder: PathBuf,
}

impl Cluster {
    fn of(url: &str) -> Self {
        let (_, folder) = url.split_once("?host=").expect("a socket folder");
        Self { folder: folder.into() }
    }

    fn control(&self, arguments: &[&str]) -> bool {
        let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
        let program = versions.flatten().map(|it| it.path().join("bin/pg_ctl")).find(|it| it.exists()).unwrap();
        let mut command = Command::new("sh");
        // The server refuses to run as root.
        command.arg("-c").arg(r#"[ "$(id -u)" = 0 ] && exec runuser -u postgres -- "$0" "$@"; exec "$0" "$@""#);
        command.arg(program).arg("-D").arg(self.folder.join("data")).args(arguments);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// As after a crash: nothing is written any more.
    fn crash(&self) {
        assert!(self.control(&["stop", "-m", "immediate", "-w"]), "PostgreSQL does not stop");
    }

    fn start(&self) {
        let folder = self.folder.display();
        let options = format!("-k {folder} -c listen_addresses= -c fsync=off -c max_connections=200");
        let log = self.folder.join("server.log").display().to_string();
        assert!(self.control(&["-l", &log, "-w", "-o", &options, "start"]), "PostgreSQL does not start");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes, and stops the PostgreSQL of all tests: make chaos"]
async fn a_database_that_is_away_costs_no_call_and_no_line_of_the_log() {
    let Some(database) = databases::postgres().await else { return };
    let cluster = Cluster::of(&database.url);
    let hub = installation().environment("DATABASE_URL", &database.url).start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let evidence = Evidence::of(&hub).await;
    for (number, seconds) in [(1, 10), (2, 60)] {
        let case = Case::new(&REFINE, number);
        case.script(&hub, |step| vec![if step == "improvement/2" { seconds * 500 } else { STEP_MS }]);
        let asked = case.ask(&hub);
        case.wait_until_in_flight(&hub, &["improvement/2"]).await;
        cluster.crash();
        let crashed = Instant::now();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        cluster.start();
        let answer = asked.await.unwrap().unwrap().answer.expect(200);
        let beyond = crashed.elapsed().saturating_sub(Duration::from_secs(seconds));
        eprintln!("outage: PostgreSQL, {seconds} s: the answer {beyond:.1?} after it");
        assert!(beyond < RETURN_LIMIT, "{beyond:?}");
        assert_eq!(case.comparable(&answer), undisturbed, "{seconds} s");
        case.assert_calls(&hub, &answer, &[]);
        let run = answer.body["id"].as_str().unwrap();
        eventually("the plan is in the log, and once", PATIENCE, || async {
            let lines = evidence.newest_of_log(&TenantId::default_tenant(), 100).await;
            (lines.iter().filter(|line| line.run.run_id.as_str() == run).count() == 1).then_some(())
        })
        .await;
    }
    hub.finish(Disturbance::Kills).await;
}
