//! What the figures must be, and whether they are.

use serde::Serialize;

use crate::{
    kinds::Kind,
    load::Load,
    measure::{Summary, count, milliseconds},
    report::Figures,
};

/// Share of durable requests that may fall back to the process before the figures are not those of durable chats.
const IN_PROCESS_SHARE_MAX: f64 = 0.01;
/// The 5 ms were set on a machine where the bare workflow's worker takes 2.7 ms. The ratio says what a slower processor
/// hides: whether the work itself is too much.
const WORKER_CPU_RATIO: f64 = 5.0 / 2.7;
/// What the fast path may cost of what a proxy of the same libraries costs that does nothing. Enforced so that it does not
/// get worse; what it is to become is shown beside it.
const FAST_PATH_CPU_RATIO: f64 = 5.0;
/// The same of requests per second.
const FAST_PATH_THROUGHPUT_RATIO: f64 = 0.27;
const KIB_PER_MIB: f64 = 1_024.0;

/// Whether a missed bar fails the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Force {
    /// It does.
    Enforced,
    /// Not yet.
    Shown,
}

/// One bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    /// What is measured.
    pub(crate) name: &'static str,
    /// What it came to.
    pub(crate) value: f64,
    /// The worst value that passes.
    pub(crate) limit: f64,
    /// In what both are.
    pub(crate) unit: &'static str,
    /// Whether it passed.
    pub(crate) is_met: bool,
    /// Whether it has to.
    pub(crate) force: Force,
}

impl Bar {
    fn at_most(force: Force, name: &'static str, value: f64, limit: f64, unit: &'static str) -> Self {
        // A figure that is not there, not a number, misses.
        Self { name, value, limit, unit, is_met: value <= limit, force }
    }

    fn at_least(force: Force, name: &'static str, value: f64, limit: f64, unit: &'static str) -> Self {
        Self { name, value, limit, unit, is_met: value >= limit, force }
    }

    /// Whether it lets the run pass.
    pub(crate) fn lets_pass(&self) -> bool {
        self.is_met || self.force == Force::Shown
    }
}

/// Holds the figures against every bar for which there are some.
pub(crate) fn judge(figures: &Figures) -> Vec<Bar> {
    let mut bars = enforced(figures);
    bars.extend(fast_path(figures));
    bars.extend(streams(figures));
    bars.extend(votes(figures));
    bars.extend([
        Bar::at_most(Force::Shown, "API memory, idle", mib(figures.idle.api_kib), 60.0, "MiB"),
        Bar::at_most(Force::Shown, "worker memory, idle", mib(figures.idle.worker_kib), 60.0, "MiB"),
    ]);
    bars
}

fn enforced(figures: &Figures) -> Vec<Bar> {
    let force = Force::Enforced;
    let ratio = p50(figures, Kind::DurableChat) / p50(figures, Kind::Bare);
    let cpu = figures.rounds.cpu_ms_each(Kind::DurableChat).unwrap_or(f64::NAN);
    let bare_cpu = figures.rounds.cpu_ms_each(Kind::Bare).unwrap_or(f64::NAN);
    let slowest = figures.durable.all.summary().map_or(f64::NAN, |all| all.max_ms / 1_000.0);
    let recovery = figures.recovery.iter().map(|one| one.recovered_after_ms / 1_000.0).reduce(f64::max);
    let in_process = figures.rounds.in_process + figures.durable.saturated.in_process + figures.durable.few.in_process;
    let share = count(in_process) / count(figures.durable.all.len());
    vec![
        Bar::at_most(force, "durable chat / bare workflow, p50", ratio, 1.35, "x"),
        Bar::at_most(
            force,
            "worker processor time, durable chat / bare workflow",
            cpu / bare_cpu,
            WORKER_CPU_RATIO,
            "x",
        ),
        Bar::at_most(force, "worker processor time of a durable chat", cpu, 5.0, "ms"),
        Bar::at_most(force, "slowest durable chat", slowest, 2.5, "s"),
        Bar::at_most(force, "recovery after kill -9 of a worker", recovery.unwrap_or(f64::NAN), 5.0, "s"),
        Bar::at_most(force, "durable requests answered in process", share, IN_PROCESS_SHARE_MAX, "of all"),
    ]
}

fn fast_path(figures: &Figures) -> Vec<Bar> {
    let added = |kind: Kind| p50(figures, kind) - p50(figures, kind.baseline());
    let (whole, first) = (added(Kind::FastPath), added(Kind::HubStream));
    let (empty, empty_first) = (added(Kind::EmptyProxy), added(Kind::EmptyProxyStream));
    let mut bars = vec![
        Bar::at_most(Force::Shown, "added by the fast path / by an empty proxy, p50", whole / empty, 2.0, "x"),
        Bar::at_most(Force::Shown, "added before the first event / empty proxy, p50", first / empty_first, 2.0, "x"),
    ];
    if figures.rounds.samples.contains_key(&Kind::Nginx) {
        let (nginx, nginx_first) = (added(Kind::Nginx), added(Kind::NginxStream));
        bars.push(Bar::at_most(Force::Shown, "added by the fast path / by nginx, p50", whole / nginx, 2.5, "x"));
        bars.push(Bar::at_most(
            Force::Shown,
            "added before the first event / nginx, p50",
            first / nginx_first,
            2.5,
            "x",
        ));
    }
    let load = |kind: Kind| figures.http.get(&kind);
    if let (Some(direct), Some(empty), Some(fast)) = (load(Kind::Direct), load(Kind::EmptyProxy), load(Kind::FastPath))
    {
        let cpu_each = |load: &Load| milliseconds(load.server_cpu) * 1_000.0 / count(load.samples.len());
        let (cpu, cpu_ratio) = (cpu_each(fast), cpu_each(fast) / cpu_each(empty));
        let of_empty = fast.per_second() / empty.per_second();
        let of_direct = fast.per_second() / direct.per_second();
        let (force, least) = (Force::Enforced, FAST_PATH_THROUGHPUT_RATIO);
        bars.push(Bar::at_most(force, "fast path / empty proxy, processor time", cpu_ratio, FAST_PATH_CPU_RATIO, "x"));
        bars.push(Bar::at_least(force, "fast path / empty proxy, requests per second", of_empty, least, "x"));
        bars.push(Bar::at_most(Force::Shown, "API processor time of a fast request, 64 at once", cpu, 60.0, "us"));
        bars.push(Bar::at_least(Force::Shown, "fast path / empty proxy, requests per second", of_empty, 0.4, "x"));
        bars.push(Bar::at_least(Force::Shown, "fast path / direct, requests per second", of_direct, 0.45, "x"));
    }
    bars
}

fn streams(figures: &Figures) -> Vec<Bar> {
    let streams = &figures.streams;
    let closed_early = count(streams.streams - streams.open_at_once);
    vec![
        Bar::at_most(Force::Enforced, "streams that failed", count(streams.failed), 0.0, ""),
        Bar::at_most(Force::Enforced, "streams that were not open with the others", closed_early, 0.0, ""),
        Bar::at_most(Force::Enforced, "API memory, all streams open", mib(streams.api_kib), 250.0, "MiB"),
    ]
}

fn mib(kib: u32) -> f64 {
    f64::from(kib) / KIB_PER_MIB
}

fn votes(figures: &Figures) -> Vec<Bar> {
    let call = p50(figures, Kind::Direct);
    let majority = p50(figures, Kind::VoteMajority) - call;
    let judge = p50(figures, Kind::VoteJudge) - 2.0 * call;
    vec![
        Bar::at_most(Force::Shown, "vote of 3 by majority, beyond one call, p50", majority, 60.0, "ms"),
        Bar::at_most(Force::Shown, "vote of 3 by judge, beyond two calls, p50", judge, 60.0, "ms"),
    ]
}

fn p50(figures: &Figures, kind: Kind) -> f64 {
    summary(figures, kind).map_or(f64::NAN, |summary| summary.p50_ms)
}

/// The summary of a kind.
pub(crate) fn summary(figures: &Figures, kind: Kind) -> Option<Summary> {
    figures.rounds.of(kind).summary()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_enforced_bar_that_is_missed_fails_the_run() {
        let bar = |force, value| Bar::at_most(force, "a", value, 1.0, "x").lets_pass();
        assert!(bar(Force::Enforced, 1.0) && bar(Force::Shown, 2.0));
        assert!(!bar(Force::Enforced, 1.01));
    }

    #[test]
    fn a_figure_that_is_missing_misses_its_bar() {
        assert!(!Bar::at_most(Force::Enforced, "a", f64::NAN, 1.0, "x").is_met);
        assert!(!Bar::at_least(Force::Enforced, "a", f64::NAN, 1.0, "x").is_met);
    }
}
