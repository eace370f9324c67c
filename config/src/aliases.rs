//! Aliases on their way into a catalogue: what a name that stands for others may be.
//!
//! Owns the rules of an alias. Whether its models exist is not asked: a provider may list them later.

use std::collections::BTreeSet;

use tokenhub_domain::{Alias, ModelId};

use crate::{
    catalogue::{Flaw, RESERVED_MODEL_PREFIX, problem_of_id},
    entries::AliasEntry,
};

/// The largest weight of a variant: shares finer than a thousandth are not meant.
const VARIANT_WEIGHT_MAX: u32 = 1_000;

/// Aliases in the making.
#[derive(Debug, Default)]
pub(crate) struct Aliases(Vec<Alias>);

impl Aliases {
    /// Takes `entry`, or says what is wrong with it.
    pub(crate) fn checked(&mut self, entry: AliasEntry) -> Result<(), Flaw> {
        let AliasEntry { name, variants, sticky_by, fallbacks, enabled } = entry;
        if let Some(problem) = problem_of_id(&name) {
            return Err(Flaw::new("name", format!("the name {problem}")));
        }
        if name == "*" {
            return Err(Flaw::new("name", "`*` leaves the choice to routing"));
        }
        if name.starts_with(RESERVED_MODEL_PREFIX) {
            return Err(Flaw::new("name", format!("the prefix `{RESERVED_MODEL_PREFIX}` is reserved for plans")));
        }
        if self.0.iter().any(|alias| alias.name.as_str() == name) {
            return Err(Flaw::new("name", "defined twice"));
        }
        if variants.is_empty() {
            return Err(Flaw::new("variants", "variants is empty"));
        }
        let mut models = BTreeSet::new();
        for variant in &variants {
            if variant.model == name {
                return Err(Flaw::new("variants", "it names itself"));
            }
            if !models.insert(&variant.model) {
                return Err(Flaw::new("variants", format!("the variant `{}` is defined twice", variant.model)));
            }
            if !(1..=VARIANT_WEIGHT_MAX).contains(&variant.weight) {
                let (weight, model) = (variant.weight, &variant.model);
                let problem = format!("weight {weight} of the variant `{model}` is not from 1 to {VARIANT_WEIGHT_MAX}");
                return Err(Flaw::new("variants", problem));
            }
        }
        let variants = variants.into_iter().map(Into::into).collect();
        self.0.push(Alias { name: ModelId::new(name), variants, sticky_by, fallbacks, enabled });
        Ok(())
    }

    /// All of them, in their order.
    pub(crate) fn finish(self) -> Vec<Alias> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{AliasVariant, StickyBy};

    use super::*;

    fn checked(json: &str) -> Result<Alias, String> {
        let mut aliases = Aliases::default();
        aliases.checked(serde_json::from_str(json).unwrap()).map_err(|flaw| flaw.problem)?;
        Ok(aliases.finish().remove(0))
    }

    #[test]
    fn an_alias_has_variants_with_weights_and_keeps_callers_unless_it_says_otherwise() {
        let alias = checked(r#"{"name":"smart","variants":[{"model":"a","weight":9},{"model_id":"p/b"}]}"#).unwrap();
        let variant = |model: &str, weight| AliasVariant { model: model.to_owned(), weight };
        assert_eq!(alias.variants, [variant("a", 9), variant("p/b", 1)]);
        assert_eq!((alias.sticky_by, alias.enabled), (StickyBy::User, true));
        let sticky = checked(r#"{"name":"s","variants":[{"model":"a"}],"sticky_by":"api_key"}"#).unwrap();
        assert_eq!(sticky.sticky_by, StickyBy::Principal);
    }

    #[test]
    fn an_alias_that_makes_no_sense_is_refused() {
        for (entry, problem) in [
            (r#""name":"","variants":[]"#, "the name is empty"),
            (r#""name":"*","variants":[{"model":"a"}]"#, "`*` leaves the choice to routing"),
            (r#""name":"plan/x","variants":[{"model":"a"}]"#, "the prefix `plan/` is reserved for plans"),
            (r#""name":"s","variants":[]"#, "variants is empty"),
            (r#""name":"s","variants":[{"model":"s"}]"#, "it names itself"),
            (r#""name":"s","variants":[{"model":"a"},{"model":"a"}]"#, "the variant `a` is defined twice"),
            (
                r#""name":"s","variants":[{"model":"a","weight":0}]"#,
                "weight 0 of the variant `a` is not from 1 to 1000",
            ),
        ] {
            assert_eq!(checked(&format!("{{{entry}}}")).unwrap_err(), problem, "{entry}");
        }
    }
}
