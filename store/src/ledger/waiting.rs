//! Records on their way from the spool file to the database, so that the file is not read again in ordinary times.
//!
//! Holds the newest records without a gap. When there are too many, because the database is away, it forgets them all:
//! the file has them.

use std::collections::VecDeque;

use super::record::SpoolRecord;

/// Records kept in memory, about 16 MiB of them.
const RECORDS_MAX: usize = 16 * 1024;

/// The newest records of a spool.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Where the first record begins in the spool; the end of the spool when there is none.
    start: u64,
    /// Each with the position behind it.
    records: VecDeque<(u64, SpoolRecord)>,
}

impl Waiting {
    /// Where the records begin; what is before has to be read from the file.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Takes a record that ends at `end`.
    pub(super) fn push(&mut self, end: u64, record: SpoolRecord) {
        if self.records.len() == RECORDS_MAX {
            self.forget(end);
        } else {
            self.records.push_back((end, record));
        }
    }

    /// Forgets everything up to `end`, where the spool ends.
    pub(super) fn forget(&mut self, end: u64) {
        self.records.clear();
        self.start = end;
    }

    /// The first records up to the position `until`, at most `count`, and the position behind them.
    pub(super) fn take(&mut self, count: usize, until: u64) -> Option<(Vec<SpoolRecord>, u64)> {
        let taken = self.records.iter().take(count).take_while(|(end, _)| *end <= until).count();
        let records: Vec<(u64, SpoolRecord)> = self.records.drain(..taken).collect();
        self.start = records.last()?.0;
        Some((records.into_iter().map(|(_, record)| record).collect(), self.start))
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::AttemptId;

    use super::*;

    fn record(number: usize) -> SpoolRecord {
        SpoolRecord { attempt: AttemptId::new(number.to_string()), ..SpoolRecord::default() }
    }

    #[test]
    fn records_come_out_in_order_and_not_beyond_the_position_asked_for() {
        let mut waiting = Waiting::default();
        (1..=5).for_each(|number| waiting.push(10 * number as u64, record(number)));
        let names = |taken: Option<(Vec<SpoolRecord>, u64)>| {
            taken.map(|(records, end)| (records.iter().map(|it| it.attempt.to_string()).collect::<Vec<_>>(), end))
        };
        assert_eq!(names(waiting.take(2, 50)), Some((vec!["1".into(), "2".into()], 20)));
        assert_eq!(names(waiting.take(9, 45)), Some((vec!["3".into(), "4".into()], 40)));
        assert_eq!((waiting.start(), names(waiting.take(9, 45))), (40, None));
    }

    #[test]
    fn too_many_records_are_forgotten_together_and_the_file_is_left_to_tell() {
        let mut waiting = Waiting::default();
        (1..=RECORDS_MAX + 1).for_each(|number| waiting.push(number as u64, record(number)));
        assert_eq!((waiting.start(), waiting.take(1, u64::MAX).is_none()), (RECORDS_MAX as u64 + 1, true));
        waiting.push(RECORDS_MAX as u64 + 2, record(0));
        assert_eq!(waiting.take(1, u64::MAX).map(|(_, end)| end), Some(RECORDS_MAX as u64 + 2));
    }
}
