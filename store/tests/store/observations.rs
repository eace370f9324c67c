//! What processes have seen of deployments.

use tokenhub_domain::{InstanceId, TenantId, UnixMicros};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, tenant},
};

on_both_databases!(what_a_process_has_seen_is_read_by_the_others_until_it_is_old);

async fn what_a_process_has_seen_is_read_by_the_others_until_it_is_old(database: Database) {
    let seen = database.store().await.observations();
    let (a, b) = (InstanceId::from("inst_a"), InstanceId::from("inst_b"));
    for (instance, body) in [(&a, "1"), (&a, "2"), (&b, "3")] {
        seen.put(&tenant(), instance, body.to_owned(), NOW).await.unwrap();
    }
    let before = UnixMicros(NOW.0 - 1);
    assert_eq!(seen.of_others(&tenant(), &b, before).await.unwrap(), ["2"]);
    assert!(seen.of_others(&tenant(), &b, NOW).await.unwrap().is_empty(), "nothing newer");
    assert!(seen.of_others(&TenantId::from("stranger"), &b, before).await.unwrap().is_empty());
    seen.put(&tenant(), &b, "4".to_owned(), NOW.plus_millis(10)).await.unwrap();
    seen.forget(&tenant(), NOW.plus_millis(5)).await.unwrap();
    let reader = InstanceId::from("inst_c");
    assert_eq!(seen.of_others(&tenant(), &reader, before).await.unwrap(), ["4"]);
}
