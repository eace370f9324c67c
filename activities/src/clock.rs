//! The wall clock of this process, in the unit of the databases.

use std::time::SystemTime;

use tokenhub_domain::UnixMicros;

/// Now.
pub(crate) fn now() -> UnixMicros {
    UnixMicros::from(SystemTime::now())
}
