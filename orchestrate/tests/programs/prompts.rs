//! What the models get to see.

use tokenhub_domain::{
    ContentHash, ContentRef, Dialect, PlanSpec, Prompt, ReplyForm, Role, Segment, SendRequest, Text, render,
};
use tokenhub_orchestrate::ballot_order;

use crate::script::{Play, RUN_ID, Scripted, adversarial, best_of_n, chat, refine, vote};

fn sent(steps: &Scripted, step: &str) -> SendRequest {
    steps.0.borrow().sends.iter().find(|request| request.step.as_str() == step).expect(step).clone()
}

fn body(request: &SendRequest) -> String {
    render(&request.prompt, Dialect::Chat).unwrap()
}

const SCRIPT: [(&str, &[Play]); 4] = [
    ("ballot/1", &[Play::Says("alpha says")]),
    ("ballot/2", &[Play::Says("beta says")]),
    ("ballot/3", &[Play::Says("gamma says")]),
    ("judge", &[Play::Says("well, the second")]),
];
const MODELS: [&str; 4] = ["vendor/model-one", "vendor/model-two", "vendor/model-three", "vendor/model-four"];

#[test]
fn the_judge_sees_no_names_and_the_order_of_the_seed() {
    let steps = Scripted::new(&MODELS, &SCRIPT);
    steps.play(PlanSpec::Vote(vote(3)));
    let request = sent(&steps, "judge");
    let body = body(&request);
    for name in ["vendor", "model-", "ballot"] {
        assert!(!body.contains(name), "{name} in {body}");
    }
    let Prompt::Derived(derived) = request.prompt else { panic!("not derived") };
    let shown: Vec<&str> = derived
        .parts
        .iter()
        .filter_map(|part| match part {
            Segment::Answer(text) => text.as_inline(),
            Segment::Literal(_) | Segment::OriginalRequest => None,
        })
        .collect();
    let texts = ["alpha says", "beta says", "gamma says"];
    let expected: Vec<&str> = ballot_order(&RUN_ID.into(), 3).into_iter().map(|index| texts[index]).collect();
    assert_eq!(shown, expected);
    assert_ne!(ballot_order(&RUN_ID.into(), 3), [0, 1, 2], "this run id must shuffle, or the test proves nothing");
}

#[test]
fn the_repair_shows_the_ballots_and_the_judges_reply_again() {
    let steps = Scripted::new(&MODELS, &SCRIPT);
    steps.play(PlanSpec::Vote(vote(3)));
    let body = body(&sent(&steps, "judge/repair"));
    for text in ["alpha says", "beta says", "gamma says", "well, the second", "Why?"] {
        assert!(body.contains(text), "{text} in {body}");
    }
}

#[test]
fn voters_candidates_and_first_answers_get_the_callers_own_request() {
    for (spec, step, form) in [
        (PlanSpec::Chat(chat()), "answer", ReplyForm::Body),
        (PlanSpec::Refine(refine(1)), "answer", ReplyForm::Text),
        (PlanSpec::Vote(vote(2)), "ballot/2", ReplyForm::Text),
        (PlanSpec::BestOfN(best_of_n(2)), "candidate/2", ReplyForm::Text),
    ] {
        let steps = Scripted::new(&MODELS, &[]);
        let original = spec.base().original.clone();
        steps.play(spec);
        let request = sent(&steps, step);
        assert_eq!((request.prompt, request.form), (Prompt::Original(original), form), "{step}");
    }
}

#[test]
fn system_messages_stay_with_authors_and_are_quoted_to_critics() {
    let steps = Scripted::new(&["a"], &[("critique/1", &[Play::Says("too short")])]);
    steps.play(PlanSpec::Adversarial(adversarial(1)));
    let message = |step: &str, index: usize| {
        serde_json::from_str::<serde_json::Value>(&render(&sent(&steps, step).prompt, Dialect::Chat).unwrap()).unwrap()
            ["messages"][index]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for author in ["plan", "revision/1"] {
        assert_eq!(message(author, 0), "Be brief.", "{author}");
        assert_eq!(message(author, 2), "Why?", "{author}");
    }
    assert!(message("revision/1", 3).contains("text of plan"));
    assert!(message("revision/1", 3).contains("too short"));
    assert!(!message("critique/1", 0).contains("Be brief."), "the critic is not bound by it");
    assert!(message("critique/1", 1).contains("Be brief."));
    assert!(message("critique/1", 1).contains("text of plan"));
    let roles: Vec<Role> = steps.0.borrow().sends.iter().map(|request| request.role).collect();
    assert_eq!(roles, [Role::Planner, Role::Critic, Role::Reviser]);
}

#[test]
fn each_round_builds_on_the_latest_text() {
    let steps = Scripted::new(&["a"], &[]);
    steps.play(PlanSpec::Adversarial(adversarial(2)));
    assert!(body(&sent(&steps, "critique/2")).contains("text of revision/1"));
    assert!(body(&sent(&steps, "revision/2")).contains("text of critique/2"));
    let steps = Scripted::new(&["a"], &[]);
    steps.play(PlanSpec::Refine(refine(2)));
    assert!(body(&sent(&steps, "improvement/1")).contains("text of answer"));
    assert!(body(&sent(&steps, "improvement/2")).contains("text of improvement/1"));
}

#[test]
fn long_answers_travel_by_reference() {
    let stored = Text::Stored(ContentRef { hash: ContentHash::of("long"), bytes: 40_000 });
    let steps = Scripted::new(&["a"], &[("answer", &[Play::SaysText(stored.clone())])]);
    steps.play(PlanSpec::Refine(refine(1)));
    let Prompt::Derived(derived) = sent(&steps, "improvement/1").prompt else { panic!("not derived") };
    assert!(derived.parts.contains(&Segment::Answer(stored)));
}
