//! A plan request as the specification of its run: the program's kind, and every name looked up.

use tokenhub_domain::{
    AdversarialSpec, BestOfNSpec, CascadeSpec, ChatSpec, FuseSpec, ModelChoice, PlanSpec, RefineSpec, RoutingProfile,
    RunId, RunKind, SpecBase, VoteSpec,
};
use tokenhub_telemetry::RequestKind;

use super::{
    entry,
    run_request::{self, Naming},
};
use crate::{
    error::Problem,
    parse::plan::{ChatProfile, Named, PRIMARY, PlanRequest, Program},
    protocol,
    state::Models,
};

/// The kind of run that carries a program.
pub(super) fn kind_of(program: &Program) -> RunKind {
    match program {
        Program::Chat { .. } => RunKind::Chat,
        Program::Adversarial { .. } => RunKind::Adversarial,
        Program::Vote { .. } => RunKind::Vote,
        Program::Refine { .. } => RunKind::Refine,
        Program::BestOfN { .. } => RunKind::BestOfN,
        Program::Cascade { .. } => RunKind::Cascade,
        Program::Fuse { .. } => RunKind::Fuse,
    }
}

/// What a run of this kind is counted as.
pub(super) fn counted_as(kind: RunKind) -> RequestKind {
    match kind {
        RunKind::Chat => RequestKind::Planning,
        RunKind::Adversarial => RequestKind::Adversarial,
        RunKind::Vote => RequestKind::Vote,
        RunKind::Refine => RequestKind::Refine,
        RunKind::BestOfN => RequestKind::BestOfN,
        RunKind::Cascade => RequestKind::Cascade,
        RunKind::Fuse => RequestKind::Fuse,
        RunKind::StreamLog => RequestKind::Other,
    }
}

/// The specification of a plan, its models looked up.
pub(super) fn spec_of(
    models: &Models,
    entry: &entry::Entry,
    kind: RunKind,
    mut request: PlanRequest,
) -> Result<PlanSpec, Problem> {
    if request.program == (Program::Chat { profile: ChatProfile::Planning }) {
        request.ask.policy.profile.get_or_insert(RoutingProfile::Planning);
    }
    let demands = request.ask.demands.clone();
    let mut base = run_request::base(models, entry, kind, RunId::generate_plan(), request.ask, &protocol::PLAN);
    request.bounds.apply(&mut base);
    base.approval = request.approval;
    let catalogue = models.world.catalogue.load_full();
    let find = |named: Option<&Named>, naming: Naming<'_>| {
        let param = named.map_or(PRIMARY, |named| named.param);
        let name = named.map(|named| named.model.as_str());
        run_request::named_model(&catalogue, entry, &base, Naming { param, name, ..naming })
    };
    let answering = Naming::of(PRIMARY, None, &demands, &base);
    let primary = Naming { min_weight: request.primary_min_weight, ..answering };
    let review = Naming { min_weight: request.review_min_weight, needs: &[], listed: &[], ..answering };
    let primary_model = find(request.primary.as_ref(), primary)?;
    let review_model = find(request.review.as_ref(), review)?;
    let stages = match &request.program {
        Program::Cascade { models, .. } => {
            let stage = Naming { listed: &[], ..primary };
            models.iter().map(|model| find(Some(model), stage)).collect::<Result<Vec<_>, _>>()?
        }
        Program::Chat { .. }
        | Program::Adversarial { .. }
        | Program::Vote { .. }
        | Program::Refine { .. }
        | Program::BestOfN { .. }
        | Program::Fuse { .. } => Vec::new(),
    };
    let named =
        NamedModels { primary: primary_model, review: review_model, stages: stages.into_iter().flatten().collect() };
    Ok(assemble(base, &request.program, named, (request.primary_min_weight, request.review_min_weight)))
}

/// The models that a request names, looked up.
struct NamedModels {
    primary: Option<ModelChoice>,
    review: Option<ModelChoice>,
    stages: Vec<ModelChoice>,
}

fn single(mut base: SpecBase, model: Option<ModelChoice>, min_weight: u32) -> PlanSpec {
    base.policy.min_weight = base.policy.min_weight.max(min_weight);
    PlanSpec::Chat(ChatSpec { base, model, background: false })
}

fn assemble(
    base: SpecBase,
    program: &Program,
    NamedModels { primary: primary_model, review: review_model, stages: models }: NamedModels,
    (primary_min_weight, review_min_weight): (u32, u32),
) -> PlanSpec {
    match *program {
        Program::Chat { .. } => single(base, primary_model, primary_min_weight),
        Program::Adversarial { rounds, return_plan_only } => PlanSpec::Adversarial(AdversarialSpec {
            base,
            rounds,
            primary_model,
            review_model,
            primary_min_weight,
            review_min_weight,
            return_plan_only,
        }),
        Program::Vote { voters, method, judge_votes, parallelism, stop } => PlanSpec::Vote(VoteSpec {
            parallelism,
            stop,
            base,
            voters,
            method,
            judge_model: review_model,
            voter_min_weight: primary_min_weight,
            judge_min_weight: review_min_weight,
            judge_votes,
        }),
        Program::Refine { rounds } => PlanSpec::Refine(RefineSpec { base, rounds, primary_model, primary_min_weight }),
        Program::BestOfN { candidates, method } => PlanSpec::BestOfN(BestOfNSpec {
            base,
            candidates,
            method,
            primary_model,
            judge_model: review_model,
            primary_min_weight,
            judge_min_weight: review_min_weight,
        }),
        Program::Cascade { stages, check, .. } => PlanSpec::Cascade(CascadeSpec {
            base,
            models,
            stages,
            check,
            judge_model: review_model,
            min_weight: primary_min_weight,
            judge_min_weight: review_min_weight,
        }),
        Program::Fuse { panel, min_success } => PlanSpec::Fuse(FuseSpec {
            base,
            panel,
            min_success,
            judge_model: review_model,
            writer_model: primary_model,
            min_weight: primary_min_weight,
            judge_min_weight: review_min_weight,
        }),
    }
}
