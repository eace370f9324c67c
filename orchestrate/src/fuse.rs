//! Several models answer, a judge lists what the answers agree on, contradict each other in and lack, and a writer makes
//! one answer of it.
//!
//! A panelist that fails is missing; so long as `min_success` answered, or the run is to answer with what it has, it goes
//! on and is partial. Without a readable list the writer goes by the answers alone; without a writer the best-ranked
//! panelist's answer is returned. Both make the run partial.

use tokenhub_domain::{
    Answer, Ballot, Candidate, FuseAnswer, FuseSpec, Outcome, ReplyForm, Role, RoutingProfile, ShortlistWish,
    StopReason, Text,
};

use crate::{
    Steps,
    ask::{Ask, ask},
    ballots::{Fanout, Grace, collect},
    conform::{Conformed, Draft, conform, settle},
    ending::Ending,
    judging::{Shown, judge},
    lineup::{self, Bench, Lineup, author_wishes, judge_wish, kin_of},
    program::{Run, Unselected},
    prompts, verdict,
};

/// The stable name of the program.
pub(crate) const ROUTING_REASON: &str = "fuse-orchestration";

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &FuseSpec) -> Result<Outcome, Unselected> {
    let (Lineup { authors, judges }, writers) = select(run, spec).await?;
    if authors.len() < usize::try_from(spec.min_success).unwrap_or(usize::MAX) {
        return Ok(Ending::too_few(run).outcome(ROUTING_REASON, None, None, Vec::new()));
    }
    let grace = spec.grace_ms.map(|millis| Grace { quorum: spec.min_success.max(1), millis });
    let fanout = Fanout { min_success: spec.min_success, grace, ..Fanout::default() };
    let mut collected = collect(run, Role::Voter, "panel", authors, fanout).await;
    let answered = u32::try_from(collected.ballots.len()).unwrap_or(u32::MAX);
    if answered < spec.min_success.max(1) && !run.is_content() {
        let failure = collected.fatal_failure();
        return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, collected.steps));
    }
    let mut answer = FuseAnswer {
        response: Text::default(),
        panel: collected.ballots.clone(),
        analysis: None,
        judge: None,
        writer: None,
        calls_withdrawn: collected.withdrawn,
    };
    let shown = Shown::of(run, &collected.ballots);
    let question = prompts::analysis(&spec.base.original, &shown.texts());
    let judged = judge(run, question, judges, verdict::analysis).await;
    (answer.analysis, answer.judge) = (judged.verdict, judged.judge);
    collected.steps.extend(judged.steps);
    let prompt = prompts::fusion(&spec.base.original, &shown.texts(), answer.analysis.as_ref());
    let form = ReplyForm::Text;
    let ask_writer =
        Ask { step: "fusion".into(), role: Role::Writer, candidates: writers, prompt: prompt.clone(), form };
    let asked = ask(run, ask_writer).await;
    collected.steps.push(asked.record);
    let (model, written, mismatch) = match asked.result {
        Ok(written) => {
            let model = written.author.deployment.model.clone();
            let draft = Draft::of("fusion".into(), Role::Writer, written.author, prompt, form, written.reply);
            let Conformed { content, failure } = conform(run, draft, &mut collected.steps).await;
            answer.response = content;
            answer.writer = Some(model.clone());
            (Some(model), None, failure)
        }
        Err(failure) => {
            let mismatch = collected.conform(run, Role::Voter, 0).await;
            let (model, response) = best_of(&collected.ballots);
            answer.response.clone_from(&response);
            if let Some(best) = answer.panel.first_mut() {
                best.content = response;
            }
            (model, Some(failure), mismatch)
        }
    };
    let failure = written.or_else(|| collected.decisive_failure(judged.failure));
    let ending = Ending::of(run, failure, StopReason::Answered);
    let settled = settle(run, mismatch, ending);
    let answer = settled.is_kept.then_some(Answer::Fuse(answer));
    Ok(settled.ending.outcome(ROUTING_REASON, model, answer, collected.steps))
}

/// The answer of the best-ranked panelist that gave one.
fn best_of(ballots: &[Ballot]) -> (Option<tokenhub_domain::ModelId>, Text) {
    ballots.first().map_or_else(Default::default, |first| (Some(first.model.clone()), first.content.clone()))
}

async fn select<S: Steps>(run: &Run<'_, S>, spec: &FuseSpec) -> Result<(Lineup, Vec<Candidate>), Unselected> {
    let panel = ShortlistWish {
        profile: RoutingProfile::Normal,
        model: None,
        min_weight: spec.min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let writer =
        ShortlistWish { profile: RoutingProfile::HighConfidence, model: spec.writer_model.clone(), ..panel.clone() };
    let judge = (spec.judge_model.as_ref(), spec.judge_min_weight);
    let mut wishes = author_wishes(&spec.models, panel);
    wishes.push(judge_wish(RoutingProfile::HighConfidence, judge, kin_of(&spec.models, spec.panel)));
    wishes.push(writer);
    let mut lists = run.select_each(wishes).await?;
    let writers = lists.pop().unwrap_or_default().candidates;
    let judges = lists.pop().unwrap_or_default().candidates;
    // The judge only lists, so it may have answered itself.
    let bench = Bench::MayVote;
    if !spec.models.is_empty() {
        return Ok((lineup::of_named(lists, judges, bench), writers));
    }
    let count = usize::try_from(spec.panel).unwrap_or(usize::MAX);
    let panel = lists.pop().unwrap_or_default();
    Ok((lineup::for_vote(panel.candidates, judges, count, bench), writers))
}
