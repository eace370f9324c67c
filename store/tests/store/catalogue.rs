//! Changes of the catalogue come one after the other, each as a whole.

use tokenhub_domain::TenantId;
use tokenhub_store::{CatalogueChange, Changed, RecordRow};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, tenant},
};

on_both_databases!(a_change_is_made_once_against_what_was_seen, of_many_who_saw_the_same_one_is_first,);

fn row(kind: &str, id: &str, version: u64) -> RecordRow {
    RecordRow {
        kind: kind.to_owned(),
        provider: if kind == "model" { "p".to_owned() } else { String::new() },
        id: id.to_owned(),
        body: format!("{{\"version\":{version}}}"),
        secret: (kind == "provider").then(|| vec![0, 159, 146, 150]),
        version,
        updated_at: NOW,
    }
}

async fn a_change_is_made_once_against_what_was_seen(database: Database) {
    let records = database.store().await.catalogue_records();
    assert_eq!(records.all(&tenant()).await.unwrap(), (0, Vec::new()));
    let both = CatalogueChange { put: vec![row("provider", "p", 1), row("model", "org/m", 1)], remove: Vec::new() };
    assert_eq!(records.change(&tenant(), 0, both.clone(), NOW).await.unwrap(), Changed::To(1));
    assert_eq!(records.change(&tenant(), 0, both, NOW).await.unwrap(), Changed::Outrun);
    let next = CatalogueChange { put: vec![row("model", "org/m", 2)], remove: vec![row("provider", "p", 0)] };
    assert_eq!(records.change(&tenant(), 1, next.clone(), NOW).await.unwrap(), Changed::To(2));
    assert_eq!(records.change(&tenant(), 1, next, NOW).await.unwrap(), Changed::Outrun);
    assert_eq!(records.count(&tenant()).await.unwrap(), 2);
    assert_eq!(records.all(&tenant()).await.unwrap(), (2, vec![row("model", "org/m", 2)]));
    assert_eq!(records.all(&TenantId::from("another")).await.unwrap(), (0, Vec::new()));
}

async fn of_many_who_saw_the_same_one_is_first(database: Database) {
    let store = database.store().await;
    for seen in 0..3 {
        let mut made = 0;
        let tries: Vec<_> = (0..8)
            .map(|number| {
                let records = store.catalogue_records();
                let change = CatalogueChange { put: vec![row("alias", &number.to_string(), 1)], remove: Vec::new() };
                tokio::spawn(async move { records.change(&tenant(), seen, change, NOW).await.unwrap() })
            })
            .collect();
        for one in tries {
            made += u32::from(one.await.unwrap() == Changed::To(seen + 1));
        }
        assert_eq!(made, 1, "after {seen} changes");
    }
    assert!(store.catalogue_records().all(&tenant()).await.unwrap().1.len() <= 3);
}
