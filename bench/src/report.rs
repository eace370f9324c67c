//! The figures of a run, as a table and as JSON.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    bars::{self, Bar, Force},
    installation::{Memory, TemporalDatabase},
    kinds::Kind,
    load::{CHATS_IN_FLIGHT, CONNECTIONS, DurableLoad, Load},
    measure::{count, median, milliseconds},
    plan::Plan,
    recovery::Recovery,
    resources,
    rounds::Rounds,
    streams::ManyStreams,
};

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Figures {
    /// One request after another.
    pub(crate) rounds: Rounds,
    /// Many at once, over HTTP.
    pub(crate) http: BTreeMap<Kind, Load>,
    /// Very many streams at once.
    pub(crate) streams: ManyStreams,
    /// Many durable chats at once.
    pub(crate) durable: DurableLoad,
    /// Killed workers.
    pub(crate) recovery: Vec<Recovery>,
    /// Memory before the load.
    pub(crate) idle: Memory,
    /// Memory after it.
    pub(crate) after: Memory,
}

/// A run and its verdict.
#[derive(Debug)]
pub(crate) struct Report {
    setting: Value,
    figures: Figures,
    bars: Vec<Bar>,
}

impl Report {
    /// The report of a run that has just ended.
    pub(crate) fn new(
        database: TemporalDatabase,
        plan: &Plan,
        load_before: &str,
        figures: Figures,
        bars: Vec<Bar>,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let setting = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "processors": processors,
            "load_average_before": load_before,
            "load_average_after": resources::load_average(),
            "temporal_database": database,
            "nginx": figures.rounds.samples.contains_key(&Kind::Nginx),
            "plan": plan,
        });
        Self { setting, figures, bars }
    }

    /// Whether no enforced bar was missed.
    pub(crate) fn passed(&self) -> bool {
        self.bars.iter().all(Bar::lets_pass)
    }

    /// Prints the table.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{} processors, load average {} before and {} after\n",
            self.setting["processors"], self.setting["load_average_before"], self.setting["load_average_after"]
        )?;
        self.print_latencies(&mut out)?;
        self.print_loads(&mut out)?;
        let mib = |kib: u32| kib / 1_024;
        let (idle, after) = (self.figures.idle, self.figures.after);
        writeln!(
            out,
            "\nresident MiB: API {} idle, {} after; worker {} idle, {} after",
            mib(idle.api_kib),
            mib(after.api_kib),
            mib(idle.worker_kib),
            mib(after.worker_kib)
        )?;
        let streams = &self.figures.streams;
        let first = streams.first_event.map_or(f64::NAN, |first| first.p50_ms);
        writeln!(
            out,
            "streams: {} of {} open at once, {} failed, first event p50 {first:.1} ms, API {} MiB",
            streams.open_at_once,
            streams.streams,
            streams.failed,
            mib(streams.api_kib)
        )?;
        if let Some(failure) = &streams.failure {
            writeln!(out, "the first stream that failed: {failure}")?;
        }
        for one in &self.figures.recovery {
            writeln!(
                out,
                "kill -9: answer after {:.0} ms, recovery {:.0} ms, {} provider calls",
                one.answered_after_ms, one.recovered_after_ms, one.provider_calls
            )?;
        }
        writeln!(out)?;
        for bar in &self.bars {
            let verdict = match (bar.is_met, bar.force) {
                (true, Force::Enforced) => "met",
                (false, Force::Enforced) => "MISSED",
                (true, Force::Shown) => "met (not enforced yet)",
                (false, Force::Shown) => "missed (not enforced yet)",
            };
            writeln!(out, "{:<50} {:>9.3} of {:>6.2} {:<6} {verdict}", bar.name, bar.value, bar.limit, bar.unit)?;
        }
        Ok(())
    }

    fn print_latencies(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<30} {:>6} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9}",
            "one after another, ms", "n", "p50", "p95", "p99", "max", "x base", "CPU"
        )?;
        for kind in Kind::ALL {
            let Some(summary) = bars::summary(&self.figures, kind) else { continue };
            let ratio = self.ratio(kind).unwrap_or(f64::NAN);
            writeln!(
                out,
                "{:<30} {:>6} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>8.2} {:>9}",
                kind.title(),
                summary.count,
                summary.p50_ms,
                summary.p95_ms,
                summary.p99_ms,
                summary.max_ms,
                ratio,
                self.figures.rounds.cpu_ms_each(kind).map_or_else(String::new, |cpu| format!("{cpu:.2}"))
            )?;
        }
        Ok(())
    }

    fn print_loads(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<30} {:>6} {:>9} {:>9} {:>9} {:>9} {:>12}",
            "many at once", "n", "per s", "p50 ms", "p99 ms", "max ms", "CPU us each"
        )?;
        let durable = &self.figures.durable;
        let chats = [("durable chat, 16 in flight", &durable.saturated), ("durable chat, 4 in flight", &durable.few)];
        let http = self.figures.http.iter().map(|(kind, load)| (kind.title(), load));
        for (title, load) in http.chain(chats) {
            let Some(summary) = load.samples.summary() else { continue };
            let cpu = milliseconds(load.server_cpu + load.worker_cpu) * 1_000.0 / count(summary.count);
            writeln!(
                out,
                "{:<30} {:>6} {:>9.0} {:>9.2} {:>9.2} {:>9.2} {:>12.0}",
                title,
                summary.count,
                load.per_second(),
                summary.p50_ms,
                summary.p99_ms,
                summary.max_ms,
                cpu
            )?;
        }
        Ok(())
    }

    /// The median of a kind over that of its baseline.
    fn ratio(&self, kind: Kind) -> Option<f64> {
        let (own, base) = (bars::summary(&self.figures, kind)?, bars::summary(&self.figures, kind.baseline())?);
        Some(own.p50_ms / base.p50_ms)
    }

    /// The middle of the ratios of each round: steadier than [`Self::ratio`] on a machine whose speed changes.
    fn ratio_by_round(&self, kind: Kind) -> Option<f64> {
        let samples = &self.figures.rounds.samples;
        let (own, base) = (samples.get(&kind)?, samples.get(&kind.baseline())?);
        let ratios =
            own.iter().zip(base).filter_map(|(own, base)| Some(own.summary()?.p50_ms / base.summary()?.p50_ms));
        median(ratios.collect())
    }

    /// Writes the JSON file.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let kinds = Kind::ALL.into_iter().filter_map(|kind| {
            let summary = bars::summary(&self.figures, kind)?;
            Some(json!({"kind": kind, "latency": summary, "baseline": kind.baseline(), "cpu_ms_each": self.figures.rounds.cpu_ms_each(kind), "ratio_p50": self.ratio(kind),
                "ratio_p50_by_round": self.ratio_by_round(kind)}))
        });
        let figures = &self.figures;
        let loads = figures.http.iter().map(|(kind, load)| load_json(*kind, CONNECTIONS, load));
        let chats = figures.durable.all.len();
        let report = json!({
            "setting": self.setting,
            "one_after_another": kinds.collect::<Vec<_>>(),
            "many_at_once": loads
                .chain([load_json(Kind::DurableChat, CHATS_IN_FLIGHT, &figures.durable.saturated)])
                .collect::<Vec<_>>(),
            "durable_chats": {"count": chats, "latency": figures.durable.all.summary()},
            "memory": {"idle": figures.idle, "after": figures.after},
            "streams": figures.streams,
            "recovery": figures.recovery,
            "bars": self.bars,
            "passed": self.passed(),
        });
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(&report)?)?;
        Ok(())
    }
}

fn load_json(kind: Kind, in_flight: usize, load: &Load) -> Value {
    let each = 1_000.0 / count(load.samples.len());
    json!({"kind": kind, "in_flight": in_flight, "per_second": load.per_second(), "latency": load.samples.summary(),
        "answered_in_process": load.in_process, "server_cpu_us_each": milliseconds(load.server_cpu) * each,
        "worker_cpu_us_each": milliseconds(load.worker_cpu) * each})
}
