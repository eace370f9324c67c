//! Specifications of every program, with the same question and no wishes beyond it.

use tokenhub_domain::{
    AdversarialSpec, BestOfNSpec, ChatSpec, DurabilityWish, OutputWish, Policy, RefineSpec, RunContext, RunKind,
    SpecBase, StopRule, VoteMethod, VoteSpec, limits,
};

use crate::script::RUN_ID;

pub(crate) fn base(kind: RunKind) -> SpecBase {
    SpecBase {
        run: RunContext {
            run_id: RUN_ID.into(),
            kind,
            tenant: "default".into(),
            principal: "me".into(),
            api_key_id: "key_1".into(),
            request_id: "req_1".into(),
            config_version: 1,
            events: tokenhub_domain::EventKeeping::None,
            labels: tokenhub_domain::Labels::default(),
            share: tokenhub_domain::Share::default(),
            deltas: tokenhub_domain::Deltas::None,
        },
        dialect: tokenhub_domain::Dialect::Chat,
        forwarded: Vec::new(),
        operation: tokenhub_domain::Operation::Chat,
        prefix: None,
        original: r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Why?"}]}"#.into(),
        estimated_input_tokens: 20,
        estimated_output_tokens: limits::ESTIMATED_OUTPUT_TOKENS,
        policy: Policy::default(),
        needs: Vec::new(),
        output: OutputWish::default(),
        wish: DurabilityWish::default(),
        approval: None,
        bounds: tokenhub_domain::Bounds::default(),
        step_timeout_ms: None,
        first_token_timeout_ms: None,
        fork: None,
        deadline_ms: limits::RUN_DEADLINE_MS,
    }
}

pub(crate) fn chat() -> ChatSpec {
    ChatSpec { base: base(RunKind::Chat), model: None, background: false }
}

pub(crate) fn adversarial(rounds: u32) -> AdversarialSpec {
    AdversarialSpec {
        base: base(RunKind::Adversarial),
        rounds,
        primary_model: None,
        review_model: None,
        primary_min_weight: 0,
        review_min_weight: 0,
        return_plan_only: false,
        check: None,
    }
}

pub(crate) fn vote(voters: u32) -> VoteSpec {
    VoteSpec {
        base: base(RunKind::Vote),
        voters,
        method: VoteMethod::Judge,
        judge_model: None,
        voter_min_weight: 0,
        judge_min_weight: 0,
        judge_votes: false,
        parallelism: None,
        stop: StopRule::All,
        check: None,
        min_success: None,
        grace_ms: None,
        models: Vec::new(),
    }
}

pub(crate) fn refine(rounds: u32) -> RefineSpec {
    RefineSpec { base: base(RunKind::Refine), rounds, primary_model: None, primary_min_weight: 0, check: None }
}

pub(crate) fn best_of_n(candidates: u32) -> BestOfNSpec {
    BestOfNSpec {
        base: base(RunKind::BestOfN),
        candidates,
        primary_model: None,
        judge_model: None,
        primary_min_weight: 0,
        judge_min_weight: 0,
        method: tokenhub_domain::RankMethod::Scored,
        parallelism: None,
        check: None,
        models: Vec::new(),
    }
}
