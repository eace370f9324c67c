//! Contents and the request log.

use tokenhub_domain::{
    ContentHash, ContentRef, DurabilityMark, ErrorClass, NanoDollars, RunContext, RunKind, RunStatus, StopReason,
    TenantId, Text, Usage, limits,
};
use tokenhub_store::{DecisionRow, RequestLogRow, StoreError};

use crate::{
    databases::{Database, on_both_databases},
    ledger::Running,
    rows::{NOW, tenant},
};

on_both_databases!(
    a_text_is_stored_once_for_each_tenant,
    only_long_texts_are_stored_and_all_come_back,
    a_reference_to_nothing_is_an_error,
    a_log_line_is_written_once_and_read_back,
    lines_are_found_by_the_id_of_their_request_and_of_their_run,
    the_log_is_paged_newest_first_without_gaps,
);

async fn a_text_is_stored_once_for_each_tenant(database: Database) {
    let contents = database.store().await.contents();
    let text = "gr\u{fc}n and a zero: \0";
    let first = contents.put(&tenant(), text, None).await.unwrap();
    assert_eq!(contents.put(&tenant(), text, Some(NOW)).await.unwrap(), first);
    assert_eq!(contents.get(&tenant(), &first.hash).await.unwrap().as_deref(), Some(text));
    assert_eq!(contents.get(&TenantId::from("stranger"), &first.hash).await.unwrap(), None);
}

async fn only_long_texts_are_stored_and_all_come_back(database: Database) {
    let contents = database.store().await.contents();
    let long = "x".repeat(limits::INLINE_TEXT_BYTES + 1);
    let stored = contents.inline_or_store(&tenant(), long.clone()).await.unwrap();
    let reference = ContentRef { hash: ContentHash::of(&long), bytes: long.len() as u64 };
    assert_eq!(stored, Text::Stored(reference));
    assert_eq!(contents.load(&tenant(), &stored).await.unwrap(), long);
    let short = contents.inline_or_store(&tenant(), "short".to_owned()).await.unwrap();
    assert_eq!(short, Text::from("short"));
    assert_eq!(contents.get(&tenant(), &ContentHash::of("short")).await.unwrap(), None);
    assert_eq!(contents.load(&tenant(), &short).await.unwrap(), "short");
}

async fn a_reference_to_nothing_is_an_error(database: Database) {
    let contents = database.store().await.contents();
    let nothing = Text::Stored(ContentRef { hash: ContentHash::of("never stored"), bytes: 12 });
    assert!(matches!(contents.load(&tenant(), &nothing).await, Err(StoreError::UnknownContent(_))));
}

fn line(number: i64) -> RequestLogRow {
    RequestLogRow {
        run: RunContext {
            run_id: format!("run_{number}").as_str().into(),
            kind: RunKind::Chat,
            tenant: tenant(),
            principal: "someone".into(),
            api_key_id: "key_1".into(),
            request_id: "req_1".into(),
            config_version: 3,
            events: tokenhub_domain::EventKeeping::None,
            labels: tokenhub_domain::Labels::default(),
            share: tokenhub_domain::Share::default(),
            deltas: tokenhub_domain::Deltas::None,
        },
        model: Some("org/model:1".into()),
        provider: None,
        durability: DurabilityMark::Stream,
        status: RunStatus::Failed,
        stop_reason: Some(StopReason::AllFailed),
        error_class: Some(ErrorClass::StreamBroken),
        usage: Usage {
            calls: 3,
            duplicate_calls: 1,
            input_tokens: 1,
            output_tokens: 2,
            cost: NanoDollars(3),
            ..Usage::default()
        },
        latency_ms: 17,
        // Pairs of lines share their time.
        created_at: tokenhub_domain::UnixMicros(NOW.0 + number / 2),
    }
}

async fn a_log_line_is_written_once_and_read_back(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    assert!(store.tenants().await.unwrap().is_empty());
    running.ledger.log(line(1)).unwrap();
    running.ledger.log(RequestLogRow { latency_ms: 99, ..line(1) }).unwrap();
    let mut of_another = line(2);
    of_another.run.tenant = "acme".into();
    running.ledger.log(of_another).unwrap();
    running.ledger.flush().await.unwrap();
    assert_eq!(store.tenants().await.unwrap().into_iter().collect::<Vec<_>>(), ["acme".into(), tenant()]);
    let log = store.request_log();
    assert_eq!(log.list(&tenant(), None, 10).await.unwrap(), [line(1)]);
    assert!(log.list(&TenantId::from("stranger"), None, 10).await.unwrap().is_empty());
}

async fn lines_are_found_by_the_id_of_their_request_and_of_their_run(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let mut ours = line(1);
    // Both at the second of the line: 1,800,000,000,000 milliseconds are 01a3185c5000 in hex.
    ours.run.request_id = "req_01a3185c50007000800000000000abcd".into();
    running.ledger.log(ours.clone()).unwrap();
    running.ledger.log(line(2)).unwrap();
    let kept =
        DecisionRow { tenant: tenant(), run_id: ours.run.run_id.clone(), body: "[]".to_owned(), created_at: NOW };
    running.ledger.decided(kept).unwrap();
    running.ledger.flush().await.unwrap();
    let log = store.request_log();
    assert_eq!(log.about(&tenant(), "req_01a3185c50007000800000000000abcd").await.unwrap(), [ours.clone()]);
    assert_eq!(log.about(&tenant(), ours.run.run_id.as_str()).await.unwrap(), [ours.clone()]);
    assert_eq!(log.about(&tenant(), line(2).run.request_id.as_str()).await.unwrap(), [line(2)]);
    assert!(log.about(&tenant(), "req_01a3185c50007000800000000000ab").await.unwrap().is_empty());
    let decisions = store.decisions().of_runs(&[ours.run.run_id.clone()]).await.unwrap();
    assert_eq!(decisions[&ours.run.run_id], "[]");
}

async fn the_log_is_paged_newest_first_without_gaps(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    (0..9).for_each(|number| running.ledger.log(line(number)).unwrap());
    running.ledger.flush().await.unwrap();
    let log = store.request_log();
    let (mut seen, mut place) = (Vec::new(), None);
    loop {
        let page = log.list(&tenant(), place.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        place = Some(last.keyset());
        seen.extend(page);
    }
    assert_eq!(seen, (0..9).rev().map(line).collect::<Vec<_>>());
}
