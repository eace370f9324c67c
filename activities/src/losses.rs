//! What a conversion lost, as the names that a client is told: fields of its request or of the answer.

use tokenhub_providers::convert::Loss;

/// More than a client reads, and far less than a header takes.
const NAMES_MAX: usize = 16;
/// Names come from requests, and one that is longer is told by its beginning.
const NAME_CHARS_MAX: usize = 64;

/// Each name once, in the order of the losses.
pub(crate) fn names_of(losses: &[Loss]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for loss in losses {
        let name: String = loss.field.chars().take(NAME_CHARS_MAX).collect();
        if names.len() < NAMES_MAX && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_told_once_and_neither_names_nor_their_number_grow_without_bound() {
        let loss = |field: String| Loss { field, reason: String::new() };
        let names = names_of(&["seed", "top_k", "seed"].map(|name| loss(name.to_owned())));
        assert_eq!(names, ["seed", "top_k"]);
        let many: Vec<Loss> = (0..100).map(|index| loss(format!("{index}-{}", "é".repeat(200)))).collect();
        let names = names_of(&many);
        assert_eq!((names.len(), names[0].chars().count()), (NAMES_MAX, NAME_CHARS_MAX));
    }
}
