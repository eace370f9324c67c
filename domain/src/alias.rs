//! Names that stand for other models: an alias splits its callers over weighted variants.

use serde::{Deserialize, Serialize};

use crate::ModelId;

/// What decides which variant a request gets: the same key, the same variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StickyBy {
    /// The session or user that the client names; its key where it names none.
    #[default]
    User,
    /// The client key.
    #[serde(alias = "api_key")]
    Principal,
    /// Nothing: each request is drawn anew.
    Request,
}

/// One of the models behind an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasVariant {
    /// The model's name, with its provider's in front where only that one is meant.
    pub model: String,
    /// Its share, relative to the other variants'.
    pub weight: u32,
}

/// A name that stands for one of several models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// What clients ask for.
    pub name: ModelId,
    /// At least one.
    pub variants: Vec<AliasVariant>,
    /// What keeps a caller on its variant.
    pub sticky_by: StickyBy,
    /// Names of the models that may answer when the variant does not, in this order.
    pub fallbacks: Vec<String>,
    /// Whether it may be asked for.
    pub enabled: bool,
}
