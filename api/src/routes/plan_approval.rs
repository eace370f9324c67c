//! `POST /v1/plan/{id}/signal` with a decision about an answer; `/v1/plan/{id}/approval` is the page behind the link that
//! decides without a key.
//!
//! Reading the page never decides, because mail programs follow links to look at them. The page works while the question
//! is open: afterwards it is gone, whatever was decided and by which way.

use axum::{
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokenhub_domain::{ApprovalState, PrincipalId, RunId};
use tokenhub_store::{ApprovalRow, RunRow};

use super::{approval_page as page, plan_later};
use crate::{
    body,
    dispatch::{self, Decided, Decider},
    error::{Problem, Shape},
    parse::approval::Verdict,
    state::Runner,
};

/// A form with one button in it.
const FORM_BYTES: usize = 1_024;
/// The page loads nothing, runs nothing, is framed by nobody and tells nobody its address.
const GUARDS: [(HeaderName, &str); 5] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// The token of a link.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    token: String,
}

/// Decides with a key.
pub(super) async fn decide_with_key(
    runner: &Runner,
    row: RunRow,
    verdict: Verdict,
    principal: PrincipalId,
) -> Result<(), Problem> {
    let id = row.run_id.to_string();
    match runner.dispatcher.decide(row, verdict, Decider::Key(principal)).await? {
        Decided::Now | Decided::AsBefore => Ok(()),
        Decided::Otherwise(state) => Err(Problem::ApprovalDecided { id, state }),
        Decided::NotAsked => Err(Problem::ApprovalNotAsked { id }),
    }
}

/// Shows the question.
pub(super) async fn show(
    State(runner): State<Runner>,
    Path(id): Path<String>,
    link: Result<Query<Link>, QueryRejection>,
) -> Response {
    match question(&runner, &id, link).await {
        Err(refusal) => refusal,
        Ok((row, question)) => match plan_later::preview(&runner, &question).await {
            Ok(preview) => html(StatusCode::OK, &page::question(&row, &question, &preview)),
            Err(problem) => failed(&problem),
        },
    }
}

/// Decides by the link.
pub(super) async fn decide(
    State(runner): State<Runner>,
    Path(id): Path<String>,
    link: Result<Query<Link>, QueryRejection>,
    request: Request,
) -> Response {
    let row = match question(&runner, &id, link).await {
        Err(refusal) => return refusal,
        Ok((row, _)) => row,
    };
    let (parts, unread) = request.into_parts();
    let form = match body::read(&parts.headers, unread, FORM_BYTES).await {
        Ok(form) => form,
        Err(problem) => return failed(&problem),
    };
    let state = match form.as_ref() {
        b"decision=approve" => ApprovalState::Approved,
        b"decision=reject" => ApprovalState::Rejected,
        _ => {
            return html(
                StatusCode::BAD_REQUEST,
                &page::notice("The form must say decision=approve or decision=reject."),
            );
        }
    };
    match runner.dispatcher.decide(row, Verdict { state, text: None, comment: None }, Decider::Link).await {
        Ok(Decided::Now) => html(StatusCode::OK, &page::notice(&format!("The answer was {}.", state.as_str()))),
        // Somebody was faster since the question was looked up.
        Ok(Decided::AsBefore | Decided::Otherwise(_) | Decided::NotAsked) => gone(),
        Err(problem) => failed(&problem),
    }
}

/// The open question that the link belongs to. A wrong token does not tell whether there is such a run.
async fn question(
    runner: &Runner,
    id: &str,
    link: Result<Query<Link>, QueryRejection>,
) -> Result<(RunRow, ApprovalRow), Response> {
    let unknown = || html(StatusCode::NOT_FOUND, &page::notice("There is nothing here: the link is not complete."));
    let Ok(Query(Link { token })) = link else { return Err(unknown()) };
    // Whose run it is, the link does not say; its signature is over the tenant, too.
    let row = dispatch::read_run_of_any_tenant(&runner.world, &RunId::from(id)).await;
    let Some(row) = row.map_err(|problem| failed(&problem))? else { return Err(unknown()) };
    let question = dispatch::read_approval(&runner.world, &row).await.map_err(|problem| failed(&problem))?;
    let question = question.filter(|question| runner.links.opens(question, &token)).ok_or_else(unknown)?;
    if dispatch::waits_for(&row, &question) { Ok((row, question)) } else { Err(gone()) }
}

fn gone() -> Response {
    html(StatusCode::GONE, &page::notice("This link was used, or the question is settled."))
}

fn failed(problem: &Problem) -> Response {
    html(problem.report(Shape::Problem).status, &page::notice(&problem.to_string()))
}

fn html(status: StatusCode, text: &str) -> Response {
    let mut response = (status, text.to_owned()).into_response();
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
