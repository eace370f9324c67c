//! Fusions: panel, analysis, one answer.

use tokenhub_domain::{
    Answer, ErrorClass, FuseAnswer, FuseSpec, Outcome, PlanSpec, Prompt, RunKind, RunStatus, Segment,
};

use crate::{
    script::{Play, Scripted},
    specs::base,
};

const FOUND: &str = r#"{"consensus": ["the sky is blue"], "contradictions": [], "gaps": ["why"]}"#;

fn fuse(min_success: u32) -> PlanSpec {
    PlanSpec::Fuse(FuseSpec {
        base: base(RunKind::Fuse),
        panel: 3,
        min_success,
        judge_model: Some("d".into()),
        writer_model: Some("a".into()),
        min_weight: 0,
        judge_min_weight: 0,
        grace_ms: None,
        models: Vec::new(),
    })
}

fn played(script: &[(&'static str, &[Play])], min_success: u32) -> (Outcome, Scripted) {
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    let outcome = steps.play(fuse(min_success));
    (outcome, steps)
}

fn fused(outcome: &Outcome) -> &FuseAnswer {
    match &outcome.answer {
        Some(Answer::Fuse(answer)) => answer,
        other => panic!("no fusion: {other:?}"),
    }
}

#[test]
fn the_writer_gets_every_answer_and_what_the_judge_found() {
    let (outcome, steps) = played(&[("judge", &[Play::Says(FOUND)]), ("fusion", &[Play::Says("one answer")])], 1);
    assert_eq!(steps.sent(), ["panel/1 a 1", "panel/2 b 1", "panel/3 c 1", "judge d 1", "fusion a 1"]);
    let answer = fused(&outcome);
    assert_eq!((answer.response.as_inline(), answer.panel.len()), (Some("one answer"), 3));
    assert_eq!(answer.analysis.as_ref().unwrap().gaps, ["why"]);
    assert_eq!(outcome.status, RunStatus::Completed);
    let world = steps.0.borrow();
    let Prompt::Derived(written) = &world.sends[4].prompt else { panic!("not derived") };
    assert_eq!(written.parts.iter().filter(|part| matches!(part, Segment::Answer(_))).count(), 3);
    let literal = written.parts.iter().any(|part| matches!(part, Segment::Literal(text) if text.contains("- why")));
    assert!(literal, "{written:?}");
}

#[test]
fn a_missing_panelist_an_unreadable_judge_and_a_dead_writer_make_it_partial() {
    let dead = [Play::Fails(ErrorClass::BadRequest)];
    let judged: (&str, &[Play]) = ("judge", &[Play::Says(FOUND)]);
    let (outcome, _) = played(&[("panel/2", &dead), judged], 2);
    assert_eq!((outcome.status, fused(&outcome).panel.len()), (RunStatus::CompletedPartial, 2));
    let (outcome, steps) = played(&[("panel/2", &dead), judged], 3);
    assert_eq!((outcome.status, outcome.answer), (RunStatus::Failed, None));
    assert_eq!(steps.sent().len(), 3, "neither judge nor writer is asked");

    let rubbish = [Play::Says("well")];
    let (outcome, _) = played(&[("judge", &rubbish), ("judge/repair", &rubbish), ("fusion", &[Play::Says("one")])], 1);
    assert_eq!((outcome.status, &fused(&outcome).analysis), (RunStatus::CompletedPartial, &None));
    assert_eq!(fused(&outcome).response.as_inline(), Some("one"));

    let (outcome, _) = played(&[judged, ("panel/1", &[Play::Says("best")]), ("fusion", &dead)], 1);
    assert_eq!(outcome.status, RunStatus::CompletedPartial);
    assert_eq!((fused(&outcome).response.as_inline(), &fused(&outcome).writer), (Some("best"), &None));
    assert_eq!(outcome.negotiated_model.unwrap().as_str(), "a");
}

#[test]
fn the_panelists_answer_goes_out_as_it_was_repaired_and_too_small_a_panel_is_not_asked() {
    let dead = [Play::Fails(ErrorClass::BadRequest)];
    let (outcome, steps) = played(
        &[
            ("panel/1", &[Play::Misses("{}", "no colour")]),
            ("panel/1/repair", &[Play::Says("{\"colour\": 1}")]),
            ("judge", &[Play::Says(FOUND)]),
            ("fusion", &dead),
        ],
        1,
    );
    assert!(steps.sent().iter().any(|call| call == "panel/1/repair a 1"), "{:?}", steps.sent());
    assert_eq!(fused(&outcome).response.as_inline(), Some("{\"colour\": 1}"));
    assert_eq!(fused(&outcome).panel[0].content.as_inline(), Some("{\"colour\": 1}"));

    let steps = Scripted::new(&["a", "d"], &[]);
    let outcome = steps.play(fuse(3));
    assert_eq!((outcome.status, steps.sent().len()), (RunStatus::Failed, 0));
}
