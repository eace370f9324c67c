//! Places where a crash test can stop a process for good, so that it can be killed exactly there.
//!
//! Without the cargo feature `fault-points` the type is empty and reaching a point does nothing.

/// A place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Before the run is claimed.
    Claim,
    /// The run is claimed, no model is chosen.
    Select,
    /// The journal lease is held, no byte has left.
    Send,
    /// The provider has named its response in the background, the journal does not have the name.
    Begun,
    /// The answer is journaled, the activity has not completed.
    Journaled,
    /// The outcome is known, nothing of it is written.
    Log,
}

#[cfg(feature = "fault-points")]
impl FaultPoint {
    fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Select => "select",
            Self::Send => "send",
            Self::Begun => "begun",
            Self::Journaled => "journaled",
            Self::Log => "log",
        }
    }
}

/// The active points of this process.
#[derive(Clone, Debug, Default)]
pub struct FaultPoints {
    #[cfg(feature = "fault-points")]
    active: Vec<ActivePoint>,
}

#[cfg(feature = "fault-points")]
#[derive(Clone, Debug)]
struct ActivePoint {
    point: String,
    step: String,
    marker: std::path::PathBuf,
}

impl FaultPoints {
    /// No point is active.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads `point[@step]=marker-file`, separated by commas.
    #[cfg(feature = "fault-points")]
    pub fn parse(list: &str) -> Self {
        let active = list
            .split(',')
            .filter_map(|entry| {
                let (place, marker) = entry.split_once('=')?;
                let (point, step) = place.split_once('@').unwrap_or((place, ""));
                Some(ActivePoint { point: point.to_owned(), step: step.to_owned(), marker: marker.into() })
            })
            .collect();
        Self { active }
    }

    /// Adds a line to the marker file and stays here, when the point is active for `step`.
    #[cfg(feature = "fault-points")]
    pub async fn reach(&self, point: FaultPoint, step: &str) {
        for active in &self.active {
            if active.point == point.as_str() && (active.step.is_empty() || active.step == step) {
                let marker = std::fs::OpenOptions::new().create(true).append(true).open(&active.marker);
                let _ =
                    marker.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{step}\n").as_bytes()));
                std::future::pending::<()>().await;
            }
        }
    }

    /// Does nothing.
    #[cfg(not(feature = "fault-points"))]
    #[expect(clippy::unused_async, reason = "the same signature as with the feature")]
    pub async fn reach(&self, _point: FaultPoint, _step: &str) {}
}
