//! Counting answers.
//!
//! Owns the grouping and its tie rule: the larger group first, of equal groups the one with the earlier voter. Stored
//! answers are compared by their hash, because their text is not here; an answer of that length is equal to another only
//! when it is the same.

use tokenhub_domain::{ContentHash, Text};

use crate::normalise::normalise;

#[derive(PartialEq)]
enum Key {
    Said(String),
    Stored(ContentHash),
}

/// For each group of equal answers their indexes, the winning group first. Abstentions are in no group.
pub(crate) fn tally<'a>(answers: impl IntoIterator<Item = &'a Text>) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Key, Vec<usize>)> = Vec::new();
    for (index, answer) in answers.into_iter().enumerate() {
        let key = match answer {
            Text::Inline(text) => match normalise(text) {
                Some(said) => Key::Said(said),
                None => continue,
            },
            Text::Stored(stored) => Key::Stored(stored.hash.clone()),
        };
        match groups.iter_mut().find(|(known, _)| known == &key) {
            Some((_, members)) => members.push(index),
            None => groups.push((key, vec![index])),
        }
    }
    let mut tally: Vec<Vec<usize>> = groups.into_iter().map(|(_, members)| members).collect();
    // The sort is stable and groups are in order of their first member.
    tally.sort_by_key(|members| std::cmp::Reverse(members.len()));
    tally
}

/// The same groups, the one whose members have the largest weights together first; the earlier voter breaks a tie.
pub(crate) fn by_weight(mut tally: Vec<Vec<usize>>, weights: &[u32]) -> Vec<Vec<usize>> {
    let weight_of = |members: &Vec<usize>| -> u64 {
        members.iter().map(|member| u64::from(weights.get(*member).copied().unwrap_or(0))).sum()
    };
    tally.sort_by_key(|members| (std::cmp::Reverse(weight_of(members)), members.first().copied()));
    tally
}

/// The index that a tally elects: the first voter of the winning group, or the first voter when all abstained.
pub(crate) fn elected(tally: &[Vec<usize>]) -> usize {
    tally.first().and_then(|members| members.first()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::ContentRef;

    use super::*;

    fn of(answers: &[&str]) -> Vec<Vec<usize>> {
        let texts: Vec<Text> = answers.iter().map(|answer| Text::from(*answer)).collect();
        tally(&texts)
    }

    #[test]
    fn the_largest_group_wins_and_the_first_voter_breaks_a_tie() {
        assert_eq!(of(&["b", "A", "a."]), [vec![1, 2], vec![0]]);
        assert_eq!(of(&["b", "a", "a", "B"]), [vec![0, 3], vec![1, 2]]);
        assert_eq!(elected(&of(&["b", "a", "a"])), 1);
        assert_eq!(elected(&of(&["c", "b", "a"])), 0);
    }

    #[test]
    fn weights_outvote_numbers_and_the_first_voter_breaks_a_tie() {
        let tally = of(&["b", "a", "a"]);
        assert_eq!(by_weight(tally.clone(), &[9, 4, 4]), [vec![0], vec![1, 2]]);
        assert_eq!(by_weight(tally.clone(), &[8, 4, 4]), [vec![0], vec![1, 2]]);
        assert_eq!(by_weight(tally, &[7, 4, 4]), [vec![1, 2], vec![0]]);
    }

    #[test]
    fn abstentions_do_not_count() {
        assert_eq!(of(&["", " ", "x"]), [vec![2]]);
        assert_eq!(elected(&of(&["", " ", "x"])), 2);
        assert_eq!(elected(&of(&["", " "])), 0);
    }

    #[test]
    fn stored_answers_are_equal_when_their_hashes_are() {
        let stored = |text: &str| Text::Stored(ContentRef { hash: ContentHash::of(text), bytes: 20_000 });
        assert_eq!(tally(&[stored("x"), Text::from("x"), stored("x"), stored("y")]), [vec![0, 2], vec![1], vec![3]]);
    }
}
