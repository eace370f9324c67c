//! What an operator reads in the Temporal UI without opening a payload: names, summaries, search attributes.
//!
//! None of it contains a word of a prompt or of an answer.

use temporalio_workflow::common::search_attributes::{SearchAttributeKey, SearchAttributes};
use tokenhub_domain::{PlanSpec, RunContext, RunKind, VoteMethod};

/// The run's id.
pub const RUN_ID: &str = "TokenHubRunId";
/// The run's tenant.
pub const TENANT: &str = "TokenHubTenant";
/// The run's program.
pub const STRATEGY: &str = "TokenHubStrategy";
/// The template that the run was made from, with its version.
pub const TEMPLATE: &str = "TokenHubTemplate";
/// The run's tags, each as `key:value`.
pub const TAGS: &str = "TokenHubTags";

/// A search attribute that must be registered before it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchAttribute {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub form: AttributeForm,
}

/// What a search attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeForm {
    /// One word.
    Keyword,
    /// Several.
    KeywordList,
}

impl SearchAttribute {
    /// Those that every workflow is started with.
    pub const OF_EVERY_RUN: [Self; 3] = [Self::keyword(RUN_ID), Self::keyword(TENANT), Self::keyword(STRATEGY)];
    /// Those of runs with labels. They are registered apart, so that a server that lacks them alone gets them.
    pub const OF_LABELS: [Self; 2] = [Self::keyword(TEMPLATE), Self { name: TAGS, form: AttributeForm::KeywordList }];

    const fn keyword(name: &'static str) -> Self {
        Self { name, form: AttributeForm::Keyword }
    }
}

/// The search attributes of a run.
pub fn search_attributes(run: &RunContext) -> SearchAttributes {
    let of_every_run = [
        SearchAttributeKey::keyword(RUN_ID).value_set(run.run_id.to_string()),
        SearchAttributeKey::keyword(TENANT).value_set(run.tenant.to_string()),
        SearchAttributeKey::keyword(STRATEGY).value_set(run.kind.as_str().to_owned()),
    ];
    let template = run
        .labels
        .template
        .as_ref()
        .map(|pin| SearchAttributeKey::keyword(TEMPLATE).value_set(format!("{}@{}", pin.name, pin.version)));
    let tags: Vec<String> = run.labels.tags.words().collect();
    let tags = (!tags.is_empty()).then(|| SearchAttributeKey::keyword_list(TAGS).value_set(tags));
    SearchAttributes::new(of_every_run.into_iter().chain(template).chain(tags))
}

/// The workflow type of a program.
pub fn workflow_type(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Chat => "ChatWorkflow",
        RunKind::Adversarial => "AdversarialWorkflow",
        RunKind::Vote => "VoteWorkflow",
        RunKind::Refine => "RefineWorkflow",
        RunKind::BestOfN => "BestOfNWorkflow",
        RunKind::Cascade => "CascadeWorkflow",
        RunKind::Fuse => "FuseWorkflow",
        RunKind::StreamLog => "StreamLogWorkflow",
    }
}

/// One line about a run: its program, its size and the models that were named.
pub fn summary(spec: &PlanSpec) -> String {
    let named = |model: &Option<tokenhub_domain::ModelChoice>| {
        model.as_ref().map_or_else(|| "routed".to_owned(), ToString::to_string)
    };
    match spec {
        PlanSpec::Chat(chat) => format!("chat · {}", named(&chat.model)),
        PlanSpec::Adversarial(plan) => format!(
            "adversarial · {} rounds · author {} · critic {}",
            plan.rounds,
            named(&plan.primary_model),
            named(&plan.review_model)
        ),
        PlanSpec::Vote(vote) => match vote.method {
            VoteMethod::Judge => format!("vote · {} voters · judge {}", vote.voters, named(&vote.judge_model)),
            VoteMethod::Majority => format!("vote · {} voters · majority", vote.voters),
            VoteMethod::Weighted => format!("vote · {} voters · weighted majority", vote.voters),
        },
        PlanSpec::Refine(refine) => {
            format!("refine · {} rounds · author {}", refine.rounds, named(&refine.primary_model))
        }
        PlanSpec::BestOfN(best) => format!(
            "best of {} · author {} · judge {}",
            best.candidates,
            named(&best.primary_model),
            named(&best.judge_model)
        ),
        PlanSpec::Cascade(cascade) if cascade.models.is_empty() => format!("cascade · {} stages", cascade.stages),
        PlanSpec::Cascade(cascade) => {
            let models: Vec<String> = cascade.models.iter().map(ToString::to_string).collect();
            format!("cascade · {}", models.join(", "))
        }
        PlanSpec::Fuse(fuse) => {
            format!("fuse · {} answers · writer {}", fuse.panel, named(&fuse.writer_model))
        }
    }
}
