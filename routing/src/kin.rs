//! Judges that are no relatives of the authors come first, where there are some.
//!
//! A preference and no limit: within the two parts the ranking stays, and nobody is left out.

use std::collections::BTreeSet;

use tokenhub_domain::{Kin, ModelId, Shortlist, ShortlistWish, family_of};

/// Puts whoever is of no author's family in front, in each list whose wish asks for that.
pub fn set_apart(lists: &mut [Shortlist], wishes: &[ShortlistWish]) {
    for (place, wish) in wishes.iter().enumerate() {
        let Some(kin) = wish.apart_from else { continue };
        let families = families_of(kin, lists);
        if let Some(list) = lists.get_mut(place) {
            // The sort is stable.
            list.candidates.sort_by_key(|candidate| families.contains(&family_of(&candidate.deployment.model)));
        }
    }
}

fn families_of(kin: Kin, lists: &[Shortlist]) -> BTreeSet<String> {
    let wished = usize::try_from(kin.models).unwrap_or(usize::MAX);
    let mut families = BTreeSet::new();
    for list in lists.iter().take(kin.wishes) {
        let mut models: Vec<&ModelId> = Vec::new();
        for candidate in &list.candidates {
            let model = &candidate.deployment.model;
            if !models.contains(&model) && models.len() < wished {
                models.push(model);
            }
        }
        families.extend(models.into_iter().map(family_of));
    }
    families
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{Candidate, Deployment, NanoDollars, RoutingProfile};

    use super::*;

    fn list(models: &[&str]) -> Shortlist {
        let candidate = |model: &&str| Candidate {
            deployment: Deployment::new(*model, "p"),
            max_context_tokens: None,
            estimated_cost: NanoDollars::default(),
            weight: 5,
        };
        Shortlist { candidates: models.iter().map(candidate).collect(), skipped: Vec::new(), paced: Vec::new() }
    }

    fn wish(apart_from: Option<Kin>) -> ShortlistWish {
        ShortlistWish { profile: RoutingProfile::Normal, model: None, min_weight: 0, needs: Vec::new(), apart_from }
    }

    #[test]
    fn relatives_of_the_authors_come_last_and_nobody_is_left_out() {
        let judges = ["gpt-5", "claude-b", "gemini-2", "openai/o3-x", "alpha"];
        for (models, expected) in [
            (0, ["gpt-5", "claude-b", "gemini-2", "openai/o3-x", "alpha"]),
            (1, ["claude-b", "gemini-2", "alpha", "gpt-5", "openai/o3-x"]),
            (2, ["gemini-2", "alpha", "gpt-5", "claude-b", "openai/o3-x"]),
        ] {
            let mut lists = [list(&["gpt-4o", "gpt-4o", "claude-a", "gemini-1"]), list(&judges)];
            set_apart(&mut lists, &[wish(None), wish(Some(Kin { wishes: 1, models }))]);
            let names: Vec<&str> = lists[1].candidates.iter().map(|it| it.deployment.model.as_str()).collect();
            assert_eq!(names, expected, "{models} authors");
        }
    }
}
