//! What a model name stands for: a model, a model at one provider, or an alias that splits its callers.
//!
//! Owns the reading of names and the choice of an alias's variant. Must not know who may be called: a name that exists
//! is resolved even where its model is switched off, so that the refusal can say so.

use tokenhub_domain::{Alias, Catalogue, ModelChoice, ProviderId, StickyBy, Target};

use crate::random::{mixed, share_of};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// What a client's model name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved<'a> {
    /// Nothing in particular: routing chooses.
    Any,
    /// This model and no other.
    Named(Target),
    /// One of the alias's variants.
    Alias(&'a Alias),
    /// No such model.
    Unknown,
}

/// Who asks: what an alias's variant may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The session or user that the client names.
    pub user: Option<&'a str>,
    /// The client key.
    pub principal: &'a str,
    /// This request and no other.
    pub request: &'a str,
}

/// A name that nothing goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The name.
    pub name: String,
    /// Whether it stands in the request's list and not in its `model`.
    pub in_list: bool,
}

/// Reads a model name: empty or `*` is any; then an alias, the exact id, and `provider/model` with a configured provider.
pub fn resolve_model<'a>(catalogue: &'a Catalogue, name: &str) -> Resolved<'a> {
    let name = name.trim();
    if name.is_empty() || name == "*" {
        return Resolved::Any;
    }
    if let Some(alias) = catalogue.alias(name) {
        return if alias.enabled { Resolved::Alias(alias) } else { Resolved::Unknown };
    }
    target_named(catalogue, name).map_or(Resolved::Unknown, Resolved::Named)
}

fn target_named(catalogue: &Catalogue, name: &str) -> Option<Target> {
    if let Some(model) = catalogue.models.iter().find(|model| model.id.as_str() == name) {
        return Some(model.id.clone().into());
    }
    name.match_indices('/').find_map(|(at, _)| {
        let (provider, rest) = (ProviderId::from(&name[..at]), &name[at + 1..]);
        let is_meant = |model: &&tokenhub_domain::Model| model.provider_id == provider && model.id.as_str() == rest;
        let model = catalogue.models.iter().find(is_meant)?;
        Some(Target { model: model.id.clone(), provider: Some(provider) })
    })
}

/// The models that may answer a request for `name`, whose own list is `listed`; `None` when routing is free to choose.
///
/// The request's list goes before the configured one. A configured name that nothing goes by stays in the choice, where
/// selection skips it with its reason: a fallback that is not there must not refuse the request.
pub fn choose(
    catalogue: &Catalogue,
    name: &str,
    listed: &[String],
    asker: Asker<'_>,
) -> Result<Option<ModelChoice>, UnknownName> {
    let mut listed_targets = Vec::with_capacity(listed.len());
    for name in listed {
        match resolve_model(catalogue, name) {
            Resolved::Named(target) => listed_targets.push((target, None)),
            Resolved::Alias(alias) => listed_targets.push((variant(catalogue, alias, asker), Some(alias))),
            Resolved::Any | Resolved::Unknown => return Err(UnknownName { name: name.clone(), in_list: true }),
        }
    }
    let (target, alias) = match resolve_model(catalogue, name) {
        Resolved::Named(target) => (target, None),
        Resolved::Alias(alias) => (variant(catalogue, alias, asker), Some(alias)),
        Resolved::Unknown => return Err(UnknownName { name: name.to_owned(), in_list: false }),
        Resolved::Any if listed_targets.is_empty() => return Ok(None),
        Resolved::Any => listed_targets.remove(0),
    };
    let wanted = if listed.is_empty() {
        configured_fallbacks(catalogue, &target, alias, asker)
    } else {
        listed_targets.into_iter().map(|(target, _)| target).collect()
    };
    let mut fallbacks: Vec<Target> = Vec::with_capacity(wanted.len());
    for fallback in wanted {
        if fallback != target && !fallbacks.contains(&fallback) {
            fallbacks.push(fallback);
        }
    }
    Ok(Some(ModelChoice { target, fallbacks, alias: alias.map(|alias| alias.name.clone()) }))
}

/// An alias with a list of its own needs none of its variants'.
fn configured_fallbacks(
    catalogue: &Catalogue,
    target: &Target,
    alias: Option<&Alias>,
    asker: Asker<'_>,
) -> Vec<Target> {
    let of_alias = alias.map(|alias| &alias.fallbacks).filter(|names| !names.is_empty());
    let of_model = || catalogue.models.iter().filter(|model| target.is(&model.id, &model.provider_id));
    let names: Vec<&String> = match of_alias {
        Some(names) => names.iter().collect(),
        None => of_model().flat_map(|model| &model.fallbacks).collect(),
    };
    names
        .into_iter()
        .map(|name| match resolve_model(catalogue, name) {
            Resolved::Named(target) => target,
            Resolved::Alias(alias) => variant(catalogue, alias, asker),
            Resolved::Any | Resolved::Unknown => name.as_str().into(),
        })
        .collect()
}

/// The variant for this asker, by weighted rendezvous hashing: a variant that comes, goes or changes its weight moves no
/// more callers than it must.
fn variant(catalogue: &Catalogue, alias: &Alias, asker: Asker<'_>) -> Target {
    let key = match alias.sticky_by {
        StickyBy::User => asker.user.unwrap_or(asker.principal),
        StickyBy::Principal => asker.principal,
        StickyBy::Request => asker.request,
    };
    let distance =
        |model: &str, weight: u32| -share_of(hash(&[alias.name.as_str(), model, key])).ln() / f64::from(weight);
    let nearest = alias
        .variants
        .iter()
        .filter(|variant| variant.weight > 0)
        .min_by(|a, b| distance(&a.model, a.weight).total_cmp(&distance(&b.model, b.weight)));
    let name = nearest.map_or(alias.name.as_str(), |variant| variant.model.as_str());
    target_named(catalogue, name).unwrap_or_else(|| name.into())
}

/// FNV-1a over the parts and their ends, mixed: neighbouring keys must not land together.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain(std::iter::once(0xff)));
    mixed(bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)))
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{AliasVariant, Model, Provider, ProviderKind};

    use super::*;

    fn catalogue() -> Catalogue {
        let provider = |id: &str| Provider::new(id, ProviderKind::Openai, "http://127.0.0.1:1");
        Catalogue {
            version: 1,
            providers: vec![provider("p"), provider("q"), provider("or/eu")],
            models: [("gpt", "p"), ("gpt", "q"), ("a/b:c", "p"), ("a/b", "or/eu"), ("llm", "q")]
                .map(|(id, provider)| Model::new(id, provider))
                .to_vec(),
            aliases: Vec::new(),
        }
    }

    fn alias(variants: &[(&str, u32)], sticky_by: StickyBy) -> Alias {
        let variants =
            variants.iter().map(|(model, weight)| AliasVariant { model: (*model).to_owned(), weight: *weight });
        Alias { name: "smart".into(), variants: variants.collect(), sticky_by, fallbacks: Vec::new(), enabled: true }
    }

    fn at(model: &str, provider: &str) -> Target {
        Target { model: model.into(), provider: Some(provider.into()) }
    }

    const NOBODY: Asker<'static> = Asker { user: None, principal: "k", request: "r" };

    fn chosen(catalogue: &Catalogue, name: &str, listed: &[&str]) -> Result<Option<ModelChoice>, UnknownName> {
        choose(catalogue, name, &listed.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), NOBODY)
    }

    #[test]
    fn a_name_is_the_exact_id_or_provider_and_id_and_keeps_its_provider() {
        let all = catalogue();
        for (name, expected) in [
            ("", Resolved::Any),
            (" * ", Resolved::Any),
            ("gpt", Resolved::Named("gpt".into())),
            (" gpt ", Resolved::Named("gpt".into())),
            ("a/b:c", Resolved::Named("a/b:c".into())),
            ("p/gpt", Resolved::Named(at("gpt", "p"))),
            ("q/gpt", Resolved::Named(at("gpt", "q"))),
            ("or/eu/a/b", Resolved::Named(at("a/b", "or/eu"))),
            ("p/llm", Resolved::Unknown),
            ("x/gpt", Resolved::Unknown),
            ("GPT", Resolved::Unknown),
            ("gpt-4", Resolved::Unknown),
        ] {
            assert_eq!(resolve_model(&all, name), expected, "{name}");
        }
    }

    #[test]
    fn a_request_lists_its_own_fallbacks_and_otherwise_the_configured_ones_count() {
        let mut all = catalogue();
        all.models[0].fallbacks = vec!["llm".to_owned(), "gone".to_owned(), "gpt".to_owned(), "llm".to_owned()];
        let of = |name: &str, listed: &[&str]| chosen(&all, name, listed).unwrap();
        let configured = of("gpt", &[]).unwrap();
        assert_eq!(
            configured.fallbacks,
            [Target::from("llm"), Target::from("gone")],
            "itself and doubles are left out"
        );
        assert_eq!(of("q/gpt", &[]).unwrap().fallbacks, [], "the other deployment's list is not its own");
        assert_eq!(of("gpt", &["q/llm"]).unwrap().fallbacks, [at("llm", "q")]);
        let first_of_list = of("", &["llm", "gpt"]).unwrap();
        assert_eq!((first_of_list.target, first_of_list.fallbacks), ("llm".into(), vec![Target::from("gpt")]));
        assert_eq!(of("*", &[]), None);
        for (name, listed, unknown, in_list) in
            [("nope", &[][..], "nope", false), ("gpt", &["llm", "no"][..], "no", true)]
        {
            assert_eq!(chosen(&all, name, listed), Err(UnknownName { name: unknown.to_owned(), in_list }));
        }
    }

    #[test]
    fn an_alias_tells_its_name_keeps_the_provider_and_has_fallbacks_of_its_own() {
        let mut all = catalogue();
        all.aliases = vec![Alias { fallbacks: vec!["llm".to_owned()], ..alias(&[("q/gpt", 1)], StickyBy::User) }];
        all.models[1].fallbacks = vec!["a/b".to_owned()];
        let choice = chosen(&all, "smart", &[]).unwrap().unwrap();
        assert_eq!(choice.alias, Some("smart".into()));
        assert_eq!((choice.target, choice.fallbacks), (at("gpt", "q"), vec![Target::from("llm")]));
        all.aliases[0].fallbacks.clear();
        assert_eq!(chosen(&all, "smart", &[]).unwrap().unwrap().fallbacks, ["a/b".into()]);
        assert_eq!(chosen(&all, "gpt", &["smart"]).unwrap().unwrap().fallbacks, [at("gpt", "q")]);
        all.aliases[0].enabled = false;
        assert_eq!(resolve_model(&all, "smart"), Resolved::Unknown);
    }

    #[test]
    fn a_caller_stays_on_its_variant_as_far_as_the_alias_says() {
        let all = catalogue();
        let is_split_by = |sticky_by, asker: &dyn Fn(&'static str) -> Asker<'static>| {
            let alias = alias(&[("gpt", 1), ("llm", 1), ("a/b:c", 1)], sticky_by);
            let chosen = ["1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|key| variant(&all, &alias, asker(key)));
            chosen.windows(2).any(|two| two[0] != two[1])
        };
        let named = Asker { user: Some("u"), ..NOBODY };
        assert!(is_split_by(StickyBy::User, &|key| Asker { user: Some(key), ..NOBODY }));
        assert!(!is_split_by(StickyBy::User, &|key| Asker { principal: key, request: key, ..named }));
        assert!(is_split_by(StickyBy::User, &|key| Asker { principal: key, ..NOBODY }));
        assert!(!is_split_by(StickyBy::User, &|key| Asker { request: key, ..NOBODY }));
        assert!(!is_split_by(StickyBy::Principal, &|key| Asker { user: Some(key), request: key, ..NOBODY }));
        assert!(is_split_by(StickyBy::Principal, &|key| Asker { principal: key, ..named }));
        assert!(is_split_by(StickyBy::Request, &|key| Asker { request: key, ..named }));
    }

    #[test]
    fn a_new_variant_takes_callers_and_moves_none_between_the_others() {
        let all = catalogue();
        let (two, three) = (
            alias(&[("gpt", 1), ("llm", 3)], StickyBy::User),
            alias(&[("gpt", 1), ("llm", 3), ("a/b:c", 1)], StickyBy::User),
        );
        for user in 0..500 {
            let user = user.to_string();
            let asker = Asker { user: Some(&user), ..NOBODY };
            let (before, after) = (variant(&all, &two, asker), variant(&all, &three, asker));
            assert!(after == before || after == "a/b:c".into(), "{before} {after}");
        }
    }

    /// n = 100,000 callers, a nine to one split, alpha 1e-6: 4.892 standard deviations on either side.
    #[test]
    fn an_alias_splits_its_callers_by_weight() {
        let all = catalogue();
        let split = alias(&[("gpt", 9), ("llm", 1)], StickyBy::User);
        let n = 100_000_u32;
        let is_small = |caller: &u32| {
            let user = format!("user-{caller}");
            variant(&all, &split, Asker { user: Some(&user), ..NOBODY }).model == "llm".into()
        };
        let small = u32::try_from((0..n).filter(is_small).count()).unwrap();
        let (expected, deviation) = (f64::from(n) * 0.1, (f64::from(n) * 0.1 * 0.9).sqrt());
        assert!((f64::from(small) - expected).abs() < 4.892 * deviation, "{small} of {n}");
    }
}
