//! `/admin/v1/codec`: what Temporal keeps encrypted, for its UI and its command line.
//!
//! Speaks the protocol of Temporal's remote codecs and opens with the admin token. The UI of a server without sign-on can
//! send no token, only the cookies of its user's browser; `/admin/v1/codec` is the page where the token is given for such a
//! cookie. It opens these two routes and nothing else, and they change nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Form, Json, Router,
    extract::{Request, State, rejection::FormRejection},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, SET_COOKIE},
    },
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::common::v1::Payload;
use tokenhub_activities::{PayloadCodec, PayloadFault};
use tokenhub_domain::limits;

use crate::{
    admin::AdminToken,
    body,
    error::Problem,
    parse::payloads,
    state::{AppState, Payloads},
};

/// Where all of it is; `cors` knows it by this.
pub(crate) const PATH: &str = "/admin/v1/codec";

const COOKIE_NAME: &str = "tokenhub_codec";
/// A working day.
const COOKIE_SECS: u64 = 8 * 60 * 60;
const SIGN_IN: &str = include_str!("codec/sign_in.html");
const SIGNED_IN: &str = include_str!("codec/signed_in.html");

/// The routes.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route(PATH, get(page).post(sign_in))
        .route("/admin/v1/codec/decode", post(decode))
        .route("/admin/v1/codec/encode", post(encode))
}

async fn decode(State(state): State<Payloads>, request: Request) -> Response {
    answer(convert(&state, request, PayloadCodec::decrypt).await)
}

async fn encode(State(state): State<Payloads>, request: Request) -> Response {
    answer(convert(&state, request, PayloadCodec::encrypt).await)
}

fn answer(answered: Result<Response, Problem>) -> Response {
    let mut response = answered.unwrap_or_else(Problem::into_admin_response);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn convert(
    state: &Payloads,
    request: Request,
    with: impl Fn(&PayloadCodec, Payload) -> Result<Payload, PayloadFault>,
) -> Result<Response, Problem> {
    let (parts, unread) = request.into_parts();
    if !has_session(state, &parts.headers) {
        state.token.load().check(&parts.headers)?;
    }
    if !state.codec.is_on() {
        return Err(Problem::NoPayloadKeys);
    }
    let bytes = body::read(&parts.headers, unread, limits::CODEC_BODY_BYTES).await?;
    let converted: Result<Vec<Value>, Problem> = payloads::read(&bytes)?
        .into_iter()
        .enumerate()
        .map(|(index, (payload, as_read))| {
            let converted = with(&state.codec, payload.clone())
                .map_err(|fault| Problem::invalid(format!("payloads[{index}]"), fault.to_string()))?;
            // What is not encrypted keeps also what we do not know of it.
            Ok(if converted == payload { as_read } else { payloads::write(&converted) })
        })
        .collect();
    Ok(Json(json!({"payloads": converted?})).into_response())
}

/// What the page sends.
#[derive(Deserialize)]
struct SignIn {
    token: String,
}

async fn page() -> Response {
    html(SIGN_IN)
}

async fn sign_in(State(state): State<Payloads>, form: Result<Form<SignIn>, FormRejection>) -> Response {
    let token = state.token.load();
    let Ok(Form(given)) = form else { return answer(Err(Problem::NotAdmin)) };
    if !token.is(&SecretString::from(given.token)) {
        return answer(Err(Problem::NotAdmin));
    }
    let ends_at = now_secs().saturating_add(COOKIE_SECS);
    let proof = token.proof_for(&purpose(ends_at));
    let cookie =
        format!("{COOKIE_NAME}={ends_at}.{proof}; Path={PATH}; Max-Age={COOKIE_SECS}; HttpOnly; SameSite=Strict");
    let mut response = html(SIGNED_IN);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn has_session(state: &Payloads, headers: &HeaderMap) -> bool {
    let token = state.token.load();
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .any(|(name, value)| name == COOKIE_NAME && is_session(&token, value))
}

/// The browser forgets a cookie when it likes; its end is in its proof.
fn is_session(token: &AdminToken, value: &str) -> bool {
    let Some((ends_at, proof)) = value.split_once('.') else { return false };
    let Ok(ends_at) = ends_at.parse::<u64>() else { return false };
    ends_at > now_secs() && token.is_proof_for(&purpose(ends_at), proof)
}

fn purpose(ends_at: u64) -> String {
    format!("{COOKIE_NAME}|{ends_at}")
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

fn html(text: &'static str) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    let headers: [(HeaderName, &str); 2] = [(CONTENT_SECURITY_POLICY, policy), (CACHE_CONTROL, "no-store")];
    (headers, Html(text)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_its_time_whatever_the_browser_keeps() {
        let token = AdminToken::new(&SecretString::from("the-token"));
        let cookie = |ends_at: u64| format!("{ends_at}.{}", token.proof_for(&purpose(ends_at)));
        let later = now_secs() + 60;
        assert!(is_session(&token, &cookie(later)));
        assert!(!is_session(&token, &cookie(now_secs() - 1)));
        let prolonged = cookie(later).replacen(&later.to_string(), &(later + 1).to_string(), 1);
        assert!(
            !is_session(&token, &prolonged)
                && !is_session(&token, "")
                && !is_session(&token, &token.proof_for(COOKIE_NAME))
        );
    }
}
