//! Templates of plans: every version of each, and whether its name is in use.
//!
//! Rows are only added. A version is written against the one that its author has seen, and the key of the table decides
//! between two authors; taking a name away is a version without content, so numbers never come back. Reads nothing into
//! what a template says.

use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Condition, Expr, Func, OnConflict, Query},
};
use tokenhub_domain::{ContentHash, PrincipalId, TemplateName, TenantId, UnixMicros};

use crate::{
    Store, StoreError,
    columns::{counted, stored},
    entities::plan_templates::{self as table, Column},
};

const WHAT: &str = "templates";

/// A version of a template, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateLine {
    /// Its name.
    pub name: TemplateName,
    /// Counts the changes of the name, from 1.
    pub version: u64,
    /// Of its content.
    pub hash: ContentHash,
    /// What it is for, in the words of its author.
    pub description: String,
    /// The type of its strategy.
    pub strategy: String,
    /// When it was written.
    pub created_at: UnixMicros,
}

/// A version of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRow {
    /// What a list shows of it.
    pub line: TemplateLine,
    /// What it says.
    pub body: String,
}

/// How a name stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateStanding {
    /// The number of its latest change; 0 before the first.
    pub version: u64,
    /// Its current version, unless the name was taken away.
    pub current: Option<TemplateRow>,
}

/// A version to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTemplate {
    /// Of its content.
    pub hash: ContentHash,
    /// What it is for.
    pub description: String,
    /// The type of its strategy.
    pub strategy: String,
    /// What it says.
    pub body: String,
}

/// The table of templates.
#[derive(Clone, Debug)]
pub struct PlanTemplates {
    store: Store,
}

impl PlanTemplates {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// How a name stands.
    pub async fn standing(&self, tenant: &TenantId, name: &TemplateName) -> Result<TemplateStanding, StoreError> {
        let latest = table::Entity::find()
            .filter(named(tenant, name))
            .order_by_desc(Column::Version)
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let Some(latest) = latest else { return Ok(TemplateStanding::default()) };
        Ok(TemplateStanding { version: counted(latest.version), current: from_model(latest)? })
    }

    /// One version, whether it is the current one or not.
    pub async fn version(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        version: u64,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let row = table::Entity::find()
            .filter(named(tenant, name).add(Column::Version.eq(stored(version))))
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        row.map_or(Ok(None), from_model)
    }

    /// At most `limit` names that are in use, behind the name `after`, in their order.
    pub async fn page(
        &self,
        tenant: &TenantId,
        after: Option<&TemplateName>,
        limit: u64,
    ) -> Result<Vec<TemplateLine>, StoreError> {
        let mut query = table::Entity::find()
            .select_only()
            .columns([
                Column::Name,
                Column::Version,
                Column::Hash,
                Column::Description,
                Column::Strategy,
                Column::CreatedAt,
            ])
            .filter(in_use(tenant));
        if let Some(after) = after {
            query = query.filter(Column::Name.gt(after.as_str()));
        }
        let rows: Vec<(String, i64, String, String, String, i64)> = query
            .order_by_asc(Column::Name)
            .limit(limit)
            .into_tuple()
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let lines = rows.into_iter().map(|(name, version, hash, description, strategy, created_at)| TemplateLine {
            name: TemplateName::new(name),
            version: counted(version),
            hash: ContentHash(hash),
            description,
            strategy,
            created_at: UnixMicros(created_at),
        });
        Ok(lines.collect())
    }

    /// How many names are in use.
    pub async fn count(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let count: Option<i64> = table::Entity::find()
            .select_only()
            .column_as(Column::Name.count(), "names")
            .filter(in_use(tenant))
            .into_tuple()
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        Ok(counted(count.unwrap_or(0)))
    }

    /// Writes the version behind `seen`. False: somebody else has.
    pub async fn put(
        &self,
        (tenant, author): (&TenantId, &PrincipalId),
        name: &TemplateName,
        seen: u64,
        template: NewTemplate,
        at: UnixMicros,
    ) -> Result<bool, StoreError> {
        let NewTemplate { hash, description, strategy, body } = template;
        let row = table::Model {
            hash: Some(hash.0),
            description,
            strategy,
            body: body.into_bytes(),
            ..without_content(tenant, author, (name, seen), at)
        };
        self.add(row).await
    }

    /// Takes the name away, after `seen` changes. False: somebody else has changed it.
    pub async fn hide(
        &self,
        (tenant, author): (&TenantId, &PrincipalId),
        name: &TemplateName,
        seen: u64,
        at: UnixMicros,
    ) -> Result<bool, StoreError> {
        self.add(without_content(tenant, author, (name, seen), at)).await
    }

    async fn add(&self, row: table::Model) -> Result<bool, StoreError> {
        let inserted = table::Entity::insert(row.into_active_model())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(inserted > 0)
    }
}

fn named(tenant: &TenantId, name: &TemplateName) -> Condition {
    Condition::all().add(Column::Tenant.eq(tenant.as_str())).add(Column::Name.eq(name.as_str()))
}

/// The latest version of each name that was not taken away.
fn in_use(tenant: &TenantId) -> Condition {
    let other = Alias::new("other");
    let latest = Query::select()
        .expr(Func::max(Expr::col((other.clone(), Column::Version))))
        .from_as(table::Entity, other.clone())
        .and_where(Expr::col((other.clone(), Column::Tenant)).equals((table::Entity, Column::Tenant)))
        .and_where(Expr::col((other, Column::Name)).equals((table::Entity, Column::Name)))
        .to_owned();
    Condition::all()
        .add(Column::Tenant.eq(tenant.as_str()))
        .add(Column::Hash.is_not_null())
        .add(Expr::col((table::Entity, Column::Version)).in_subquery(latest))
}

fn without_content(
    tenant: &TenantId,
    author: &PrincipalId,
    (name, seen): (&TemplateName, u64),
    at: UnixMicros,
) -> table::Model {
    table::Model {
        tenant: tenant.to_string(),
        name: name.to_string(),
        version: stored(seen + 1),
        hash: None,
        description: String::new(),
        strategy: String::new(),
        body: Vec::new(),
        principal: author.to_string(),
        created_at: at.0,
    }
}

fn from_model(model: table::Model) -> Result<Option<TemplateRow>, StoreError> {
    let Some(hash) = model.hash else { return Ok(None) };
    let body = String::from_utf8(model.body)
        .map_err(|_| StoreError::Decode { column: "plan_templates.body", value: model.name.clone() })?;
    let line = TemplateLine {
        name: TemplateName::new(model.name),
        version: counted(model.version),
        hash: ContentHash(hash),
        description: model.description,
        strategy: model.strategy,
        created_at: UnixMicros(model.created_at),
    };
    Ok(Some(TemplateRow { line, body }))
}
