//! Long prompts and answers, stored once for each tenant and text.
//!
//! Bodies are bytes: sealing them changes no column, and `PostgreSQL` takes every character that a provider may send.

use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};
use tokenhub_domain::{ContentHash, ContentRef, TenantId, Text, UnixMicros};

use crate::{Store, StoreError, columns::stored, entities::contents};

const WHAT: &str = "contents";

/// The table of long texts.
#[derive(Clone, Debug)]
pub struct Contents {
    store: Store,
}

impl Contents {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores `text` unless it is stored already.
    pub async fn put(
        &self,
        tenant: &TenantId,
        text: &str,
        expires_at: Option<UnixMicros>,
    ) -> Result<ContentRef, StoreError> {
        let reference = ContentRef { hash: ContentHash::of(text), bytes: text.len() as u64 };
        let row = contents::ActiveModel {
            tenant: Set(tenant.as_str().to_owned()),
            hash: Set(reference.hash.0.clone()),
            bytes: Set(stored(reference.bytes)),
            body: Set(text.as_bytes().to_vec()),
            expires_at: Set(expires_at.map(|at| at.0)),
            created_at: Set(UnixMicros::from(std::time::SystemTime::now()).0),
        };
        let key = [contents::Column::Tenant, contents::Column::Hash];
        contents::Entity::insert(row)
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
            .exec_without_returning(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(reference)
    }

    /// The text with that hash.
    pub async fn get(&self, tenant: &TenantId, hash: &ContentHash) -> Result<Option<String>, StoreError> {
        let key = (tenant.as_str().to_owned(), hash.0.clone());
        let row =
            contents::Entity::find_by_id(key).one(self.store.reader()).await.map_err(StoreError::reading(WHAT))?;
        row.map(|row| String::from_utf8(row.body))
            .transpose()
            .map_err(|_| StoreError::Decode { column: "contents.body", value: hash.0.clone() })
    }

    /// The text as a value that may travel in a history: stored when it is too long to travel itself.
    pub async fn inline_or_store(&self, tenant: &TenantId, text: String) -> Result<Text, StoreError> {
        if Text::must_be_stored(&text) {
            return self.put(tenant, &text, None).await.map(Text::Stored);
        }
        Ok(Text::Inline(text))
    }

    /// The text itself, wherever it is.
    pub async fn load(&self, tenant: &TenantId, text: &Text) -> Result<String, StoreError> {
        match text {
            Text::Inline(inline) => Ok(inline.clone()),
            Text::Stored(reference) => self
                .get(tenant, &reference.hash)
                .await?
                .ok_or_else(|| StoreError::UnknownContent(reference.hash.clone())),
        }
    }
}
