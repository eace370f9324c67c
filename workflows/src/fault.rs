//! Where a crash test can have a workflow's code panic, as a mistake in a program would.
//!
//! Without the cargo feature `fault-points` nothing here does anything.

/// The step that records the end of a run, which no program names.
pub(crate) const RECORD: &str = "record";

#[cfg(feature = "fault-points")]
static PANICKING_STEP: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// From now on every workflow of this process panics that asks for `step`.
#[cfg(feature = "fault-points")]
pub fn panic_at(step: &str) {
    let _ = PANICKING_STEP.set(step.to_owned());
}

/// Panics where the step was chosen for it.
#[cfg(feature = "fault-points")]
pub(crate) fn reach(step: &str) {
    let is_chosen = PANICKING_STEP.get().is_some_and(|chosen| chosen == step);
    assert!(!is_chosen, "a crash test has chosen the step {step}");
}

/// Does nothing.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn reach(_step: &str) {}
