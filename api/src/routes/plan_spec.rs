//! A plan request as the specification of its run: the program's kind, and every name looked up.

use tokenhub_domain::{
    AdversarialSpec, BestOfNSpec, CascadeSpec, ChatSpec, FuseSpec, ModelChoice, OutsideCheck, PlanSpec, RefineSpec,
    RoutingProfile, RunId, RunKind, SpecBase, VoteSpec,
};
use tokenhub_providers::VerifierUrl;
use tokenhub_telemetry::RequestKind;

use super::{
    entry,
    run_request::{self, Naming},
};
use crate::{
    error::Problem,
    parse::check::URL,
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
    base.run.labels = std::mem::take(&mut request.labels);
    base.run.deltas = request.deltas;
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
    let each = Naming { listed: &[], ..primary };
    let each = request.models.iter().map(|model| find(Some(model), each)).collect::<Result<Vec<_>, _>>()?;
    let named = NamedModels {
        primary: primary_model,
        review: review_model,
        each: each.into_iter().flatten().collect(),
        check: listed(models, request.check)?,
    };
    Ok(assemble(base, &request.program, named, (request.primary_min_weight, request.review_min_weight)))
}

/// A check whose verifier, if it has one, is on the operator's list.
fn listed(models: &Models, check: Option<OutsideCheck>) -> Result<Option<OutsideCheck>, Problem> {
    if let Some(OutsideCheck::Http { url }) = &check {
        let url = VerifierUrl::parse(url).map_err(|error| Problem::invalid(URL, error.to_string()))?;
        if !models.live.settings().verifiers.allows(url.authority()) {
            let reason = "must be at a host that the operator has listed in TOKENHUB_VERIFIER_HOSTS";
            return Err(Problem::invalid(URL, reason));
        }
    }
    Ok(check)
}

/// What a request names, looked up.
struct NamedModels {
    primary: Option<ModelChoice>,
    review: Option<ModelChoice>,
    /// Each of the authors, or stages.
    each: Vec<ModelChoice>,
    check: Option<OutsideCheck>,
}

fn single(mut base: SpecBase, model: Option<ModelChoice>, min_weight: u32) -> PlanSpec {
    base.policy.min_weight = base.policy.min_weight.max(min_weight);
    PlanSpec::Chat(ChatSpec { base, model, background: false })
}

fn assemble(base: SpecBase, program: &Program, named: NamedModels, weights: (u32, u32)) -> PlanSpec {
    let (primary_min_weight, review_min_weight) = weights;
    match *program {
        Program::Chat { .. } => single(base, named.primary, primary_min_weight),
        Program::Adversarial { rounds, return_plan_only } => PlanSpec::Adversarial(AdversarialSpec {
            base,
            rounds,
            primary_model: named.primary,
            review_model: named.review,
            primary_min_weight,
            review_min_weight,
            return_plan_only,
            check: named.check,
        }),
        Program::Refine { rounds } => PlanSpec::Refine(RefineSpec {
            base,
            rounds,
            primary_model: named.primary,
            primary_min_weight,
            check: named.check,
        }),
        Program::Cascade { stages, check } => PlanSpec::Cascade(CascadeSpec {
            base,
            models: named.each,
            stages,
            check,
            judge_model: named.review,
            min_weight: primary_min_weight,
            judge_min_weight: review_min_weight,
        }),
        Program::Vote { .. } | Program::BestOfN { .. } | Program::Fuse { .. } => {
            assemble_ballot(base, program, named, weights)
        }
    }
}

/// Those whose authors answer at the same time.
fn assemble_ballot(base: SpecBase, program: &Program, named: NamedModels, weights: (u32, u32)) -> PlanSpec {
    let (primary_min_weight, judge_min_weight) = weights;
    match *program {
        Program::Vote { voters, method, judge_votes, parallelism, stop, min_success, grace_ms } => {
            PlanSpec::Vote(VoteSpec {
                base,
                voters,
                method,
                judge_model: named.review,
                voter_min_weight: primary_min_weight,
                judge_min_weight,
                judge_votes,
                parallelism,
                stop,
                check: named.check,
                min_success,
                grace_ms,
                models: named.each,
            })
        }
        Program::BestOfN { candidates, method, parallelism } => PlanSpec::BestOfN(BestOfNSpec {
            base,
            candidates,
            primary_model: named.primary,
            judge_model: named.review,
            primary_min_weight,
            method,
            judge_min_weight,
            parallelism,
            check: named.check,
            models: named.each,
        }),
        Program::Fuse { panel, min_success, grace_ms } => PlanSpec::Fuse(FuseSpec {
            base,
            panel,
            min_success,
            judge_model: named.review,
            writer_model: named.primary,
            min_weight: primary_min_weight,
            judge_min_weight,
            grace_ms,
            models: named.each,
        }),
        Program::Chat { .. } | Program::Adversarial { .. } | Program::Refine { .. } | Program::Cascade { .. } => {
            assemble(base, program, named, weights)
        }
    }
}
