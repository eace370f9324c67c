//! Templates are written against the version that was seen, and runs are found by what they are labelled with.

use tokenhub_domain::{
    ContentHash, Labels, PrincipalId, RunId, RunKind, RunStatus, Tags, TemplateName, TemplatePin, TenantId,
};
use tokenhub_store::{NewRun, NewTemplate, Store, TemplateStanding, WantedRuns};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, run, scoped_run, tenant},
};

on_both_databases!(
    a_version_is_written_once_against_what_was_seen,
    of_many_authors_who_saw_the_same_version_one_is_first,
    runs_are_paged_by_tag_and_template_beside_everything_else,
    a_run_is_tagged_once_however_often_it_is_asked_for,
);

fn template(text: &str) -> NewTemplate {
    NewTemplate {
        hash: ContentHash::of(text),
        description: format!("about {text}"),
        strategy: "vote".to_owned(),
        body: format!("{{\"text\":\"{text} \\u0000 ü\"}}"),
    }
}

async fn put(store: &Store, name: &str, seen: u64, text: &str) -> bool {
    let by = (&tenant(), &PrincipalId::from("someone"));
    store.plan_templates().put(by, &name.into(), seen, template(text), NOW).await.unwrap()
}

async fn a_version_is_written_once_against_what_was_seen(database: Database) {
    let store = database.store().await;
    let (templates, name) = (store.plan_templates(), TemplateName::from("review"));
    assert_eq!(templates.standing(&tenant(), &name).await.unwrap(), TemplateStanding::default());
    assert!(put(&store, "review", 0, "first").await);
    assert!(!put(&store, "review", 0, "late").await);
    assert!(put(&store, "review", 1, "second").await);
    let standing = templates.standing(&tenant(), &name).await.unwrap();
    let current = standing.current.unwrap();
    assert_eq!((standing.version, current.line.version, current.body), (2, 2, template("second").body));
    let old = templates.version(&tenant(), &name, 1).await.unwrap().unwrap();
    assert_eq!((old.line.hash, old.line.strategy.as_str()), (ContentHash::of("first"), "vote"));
    assert_eq!(templates.standing(&TenantId::from("stranger"), &name).await.unwrap(), TemplateStanding::default());

    let by = (&tenant(), &PrincipalId::from("someone"));
    assert!(!templates.hide(by, &name, 1, NOW).await.unwrap());
    assert!(templates.hide(by, &name, 2, NOW).await.unwrap());
    assert_eq!(templates.standing(&tenant(), &name).await.unwrap(), TemplateStanding { version: 3, current: None });
    assert_eq!(templates.version(&tenant(), &name, 3).await.unwrap(), None);
    assert_eq!(templates.count(&tenant()).await.unwrap(), 0);
    for name in ["c", "a", "b"] {
        assert!(put(&store, name, 0, name).await);
    }
    assert!(put(&store, "a", 1, "again").await);
    let names = |lines: Vec<tokenhub_store::TemplateLine>| -> Vec<(String, u64)> {
        lines.into_iter().map(|line| (line.name.to_string(), line.version)).collect()
    };
    let first = names(templates.page(&tenant(), None, 2).await.unwrap());
    assert_eq!(first, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    let rest = names(templates.page(&tenant(), Some(&"b".into()), 2).await.unwrap());
    assert_eq!((rest, templates.count(&tenant()).await.unwrap()), (vec![("c".to_owned(), 1)], 3));
    assert!(templates.page(&TenantId::from("stranger"), None, 9).await.unwrap().is_empty());
}

async fn of_many_authors_who_saw_the_same_version_one_is_first(database: Database) {
    let store = database.store().await;
    for seen in 0..3 {
        let tries: Vec<_> = (0..8)
            .map(|author| {
                let store = store.clone();
                tokio::spawn(async move { put(&store, "review", seen, &format!("author {author}")).await })
            })
            .collect();
        let mut written = 0;
        for one in tries {
            written += u32::from(one.await.unwrap());
        }
        assert_eq!(written, 1, "after version {seen}");
    }
}

fn labels(team: &str, template: Option<&str>) -> Labels {
    let tags = [("team", team), ("all", "yes")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let pin = |name: &str| TemplatePin { name: name.into(), version: 3, hash: ContentHash::of(name) };
    Labels { tags: Tags(tags.into()), template: template.map(pin) }
}

/// The runs that a list tells, in pages of two.
async fn listed(store: &Store, wanted: WantedRuns<'_>) -> Vec<RunId> {
    let (runs, asker) = (store.runs(), PrincipalId::from("someone"));
    let (mut found, mut last) = (Vec::new(), None);
    loop {
        let page = runs.page(&tenant(), &asker, wanted, last.as_ref(), 2).await.unwrap();
        found.extend(page.iter().map(|row| row.run_id.clone()));
        match page.into_iter().next_back() {
            Some(row) => last = Some(row),
            None => return found,
        }
    }
}

async fn runs_are_paged_by_tag_and_template_beside_everything_else(database: Database) {
    let store = database.store().await;
    let mut ids = Vec::new();
    for (place, (team, template)) in [
        ("search", Some("review")),
        ("ads", Some("review")),
        ("search", None),
        ("search", Some("other")),
        ("search", None),
    ]
    .into_iter()
    .enumerate()
    {
        // Two of the same moment are told apart by their ids.
        let created_at = NOW.plus_millis(place as u64 / 2);
        let kind = if place == 2 { RunKind::Refine } else { RunKind::Vote };
        let made = NewRun { labels: labels(team, template), created_at, kind, ..run(&RunId::generate_plan()) };
        store.runs().insert(&made).await.unwrap();
        ids.push(made.run_id);
    }
    let stranger = NewRun { labels: labels("search", None), principal: "else".into(), ..run(&RunId::generate_plan()) };
    store.runs().insert(&stranger).await.unwrap();
    let of = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    let all = WantedRuns::default();
    assert_eq!(listed(&store, all).await, of(&[4, 3, 2, 1, 0]));
    assert_eq!(listed(&store, WantedRuns { tag: Some("team:search"), ..all }).await, of(&[4, 3, 2, 0]));
    assert_eq!(listed(&store, WantedRuns { tag: Some("all:yes"), ..all }).await, of(&[4, 3, 2, 1, 0]));
    let vote = WantedRuns { kind: Some(RunKind::Vote), status: Some(RunStatus::Pending), ..all };
    assert_eq!(listed(&store, WantedRuns { tag: Some("team:search"), ..vote }).await, of(&[4, 3, 0]));
    let review = TemplateName::from("review");
    let by_review = WantedRuns { template: Some(&review), ..all };
    assert_eq!(listed(&store, by_review).await, of(&[1, 0]));
    assert_eq!(listed(&store, WantedRuns { tag: Some("team:ads"), ..by_review }).await, of(&[1]));
    assert!(listed(&store, WantedRuns { tag: Some("team"), ..all }).await.is_empty());
    let row = store.runs().get(&tenant(), &ids[0]).await.unwrap().unwrap();
    assert_eq!(row.labels, labels("search", Some("review")));
}

async fn a_run_is_tagged_once_however_often_it_is_asked_for(database: Database) {
    let store = database.store().await;
    let asked = || NewRun { labels: labels("search", None), ..scoped_run("scope", "body") };
    let first = asked();
    store.runs().insert(&first).await.unwrap();
    store.runs().insert(&asked()).await.unwrap();
    assert_eq!(listed(&store, WantedRuns { tag: Some("team:search"), ..WantedRuns::default() }).await, [first.run_id]);
}
