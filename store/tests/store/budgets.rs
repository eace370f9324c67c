//! The limits of bounded runs.

use tokenhub_domain::{Bound, Bounds, Extent, NanoDollars, StepBounds, StepId, Use};
use tokenhub_store::Room;

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, tenant},
};

on_both_databases!(
    many_at_once_never_take_more_than_there_is,
    what_was_not_used_comes_back_and_the_call_stays_counted,
    each_step_has_its_own_limits_and_what_it_may_not_have_is_there_for_others,
    many_calls_of_many_steps_at_once_keep_to_both_limits,
);

const ONE: Use = Use { calls: 1, tokens: 10, cost: NanoDollars(100) };

fn step() -> StepId {
    StepId::from("ballot/1")
}

async fn many_at_once_never_take_more_than_there_is(database: Database) {
    let store = database.store().await;
    let bounds = Bounds { max_calls: Some(5), ..Bounds::default() };
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let budgets = store.budgets();
        takers.spawn(
            async move { budgets.take((&tenant(), &"plan_1".into()), &step(), bounds, ONE, NOW).await.unwrap() },
        );
    }
    let rooms = takers.join_all().await;
    assert_eq!(rooms.iter().filter(|room| **room == Room::Taken).count(), 5);
    let used = Use { calls: 5, tokens: 50, cost: NanoDollars(500) };
    let refused = Room::Refused { extent: Extent::Run, bound: Bound::Calls, used, bounds };
    assert_eq!(rooms.iter().filter(|room| **room == refused).count(), 11);
    // Another run has its own.
    assert_eq!(
        store.budgets().take((&tenant(), &"plan_2".into()), &step(), bounds, ONE, NOW).await.unwrap(),
        Room::Taken
    );
}

async fn what_was_not_used_comes_back_and_the_call_stays_counted(database: Database) {
    let budgets = database.store().await.budgets();
    let (tenant, run) = (tenant(), "plan_1".into());
    let bounds =
        Bounds { max_cost: Some(NanoDollars(150)), max_tokens: Some(25), max_calls: None, ..Bounds::default() };
    assert_eq!(budgets.take((&tenant, &run), &step(), bounds, ONE, NOW).await.unwrap(), Room::Taken);
    let refused = Room::Refused { extent: Extent::Run, bound: Bound::Cost, used: ONE, bounds };
    assert_eq!(budgets.take((&tenant, &run), &step(), bounds, ONE, NOW).await.unwrap(), refused);
    let used = Use { calls: 1, tokens: 9, cost: NanoDollars(50) };
    budgets.settle((&tenant, &run), None, ONE, used, NOW).await.unwrap();
    assert_eq!(budgets.used(&tenant, &run).await.unwrap(), used);
    assert_eq!(
        budgets.take((&tenant, &run), &step(), bounds, ONE, NOW).await.unwrap(),
        Room::Taken,
        "both limits are just met"
    );
    let refused = budgets.take((&tenant, &run), &step(), bounds, ONE, NOW).await.unwrap();
    assert!(matches!(
        refused,
        Room::Refused { extent: Extent::Run, bound: Bound::Tokens, used: Use { calls: 2, tokens: 19, .. }, .. }
    ));
}

async fn each_step_has_its_own_limits_and_what_it_may_not_have_is_there_for_others(database: Database) {
    let budgets = database.store().await.budgets();
    let (tenant, run, second) = (tenant(), "plan_1".into(), StepId::from("ballot/2"));
    let per_step = StepBounds { max_tokens: Some(19), ..StepBounds::default() };
    let bounds = Bounds { max_calls: Some(4), per_step, ..Bounds::default() };
    let take = async |step: &StepId| budgets.take((&tenant, &run), step, bounds, ONE, NOW).await.unwrap();
    assert_eq!(take(&step()).await, Room::Taken);
    let of_step = |used| Room::Refused { extent: Extent::Step, bound: Bound::Tokens, used, bounds: per_step.limits() };
    for _ in 0..5 {
        assert_eq!(take(&step()).await, of_step(ONE), "a refusal takes nothing of the run");
    }
    assert_eq!(take(&second).await, Room::Taken);
    let used = Use { tokens: 9, cost: NanoDollars(50), ..ONE };
    budgets.settle((&tenant, &run), Some(&step()), ONE, used, NOW).await.unwrap();
    assert_eq!(take(&step()).await, Room::Taken, "what the first call left is just enough");
    assert_eq!(take(&second).await, of_step(ONE), "what one step gives back is no other's");
    assert_eq!(take(&StepId::from("ballot/3")).await, Room::Taken);
    let refused = take(&StepId::from("ballot/4")).await;
    assert!(matches!(refused, Room::Refused { extent: Extent::Run, bound: Bound::Calls, .. }), "{refused:?}");
}

async fn many_calls_of_many_steps_at_once_keep_to_both_limits(database: Database) {
    let store = database.store().await;
    let per_step = StepBounds { max_calls: Some(2), ..StepBounds::default() };
    let bounds = Bounds { max_calls: Some(7), per_step, ..Bounds::default() };
    let mut takers = tokio::task::JoinSet::new();
    for taker in 0..20 {
        let budgets = store.budgets();
        takers.spawn(async move {
            let step = StepId::new(format!("ballot/{}", taker % 4));
            let room = budgets.take((&tenant(), &"plan_1".into()), &step, bounds, ONE, NOW).await.unwrap();
            (step, room)
        });
    }
    let rooms = takers.join_all().await;
    let taken = |of: &str| rooms.iter().filter(|(step, room)| step.as_str() == of && *room == Room::Taken).count();
    let of_steps: Vec<usize> = (0..4).map(|step| taken(&format!("ballot/{step}"))).collect();
    assert!(of_steps.iter().all(|count| *count <= 2) && of_steps.iter().sum::<usize>() == 7, "{of_steps:?}");
}
