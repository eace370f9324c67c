//! The limits of bounded runs.

use tokenhub_domain::{Bound, Bounds, NanoDollars, Use};
use tokenhub_store::Room;

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, tenant},
};

on_both_databases!(many_at_once_never_take_more_than_there_is, what_was_not_used_comes_back_and_the_call_stays_counted);

const ONE: Use = Use { calls: 1, tokens: 10, cost: NanoDollars(100) };

async fn many_at_once_never_take_more_than_there_is(database: Database) {
    let store = database.store().await;
    let bounds = Bounds { max_calls: Some(5), ..Bounds::default() };
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let budgets = store.budgets();
        takers.spawn(async move { budgets.take((&tenant(), &"plan_1".into()), bounds, ONE, NOW).await.unwrap() });
    }
    let rooms = takers.join_all().await;
    assert_eq!(rooms.iter().filter(|room| **room == Room::Taken).count(), 5);
    let used = Use { calls: 5, tokens: 50, cost: NanoDollars(500) };
    let refused = Room::Refused { bound: Bound::Calls, used, bounds };
    assert_eq!(rooms.iter().filter(|room| **room == refused).count(), 11);
    // Another run has its own.
    assert_eq!(store.budgets().take((&tenant(), &"plan_2".into()), bounds, ONE, NOW).await.unwrap(), Room::Taken);
}

async fn what_was_not_used_comes_back_and_the_call_stays_counted(database: Database) {
    let budgets = database.store().await.budgets();
    let (tenant, run) = (tenant(), "plan_1".into());
    let bounds = Bounds { max_cost: Some(NanoDollars(150)), max_tokens: Some(25), max_calls: None };
    assert_eq!(budgets.take((&tenant, &run), bounds, ONE, NOW).await.unwrap(), Room::Taken);
    let refused = Room::Refused { bound: Bound::Cost, used: ONE, bounds };
    assert_eq!(budgets.take((&tenant, &run), bounds, ONE, NOW).await.unwrap(), refused);
    let used = Use { calls: 1, tokens: 9, cost: NanoDollars(50) };
    budgets.settle((&tenant, &run), ONE, used, NOW).await.unwrap();
    assert_eq!(budgets.used(&tenant, &run).await.unwrap(), used);
    assert_eq!(budgets.take((&tenant, &run), bounds, ONE, NOW).await.unwrap(), Room::Taken, "both limits are just met");
    let refused = budgets.take((&tenant, &run), bounds, ONE, NOW).await.unwrap();
    assert!(matches!(refused, Room::Refused { bound: Bound::Tokens, used: Use { calls: 2, tokens: 19, .. }, .. }));
}
