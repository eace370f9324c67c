//! The token of the link by which somebody without a key decides about an answer.
//!
//! It is a signature over the question, made with the secret that seals the keys of providers: so every process of an
//! installation knows it, the database does not, and it can be shown again. What is left of it after a decision is worth
//! nothing, because a question is decided once.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use tokenhub_store::ApprovalRow;

/// Keeps these signatures apart from everything else that is made with the secret.
const PURPOSE: &str = "tokenhub approval link v1";

/// Signs links and knows its own.
pub(crate) struct ApprovalLinks {
    key: hmac::Key,
}

impl ApprovalLinks {
    /// With the secret of the installation.
    pub(crate) fn new(secret: &SecretString) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()) }
    }

    /// Where the question is decided.
    pub(crate) fn path(&self, question: &ApprovalRow) -> String {
        let token = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, content(question).as_bytes()));
        format!("/v1/plan/{}/approval?token={token}", question.run_id)
    }

    /// Whether `token` is that of the question; takes the same time for every wrong one.
    pub(crate) fn opens(&self, question: &ApprovalRow, token: &str) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(token);
        signature.is_ok_and(|it| hmac::verify(&self.key, content(question).as_bytes(), &it).is_ok())
    }
}

fn content(question: &ApprovalRow) -> String {
    format!("{PURPOSE}|{}|{}|{}", question.tenant, question.run_id, question.requested_at.0)
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{ApprovalState, OnTimeout, UnixMicros};

    use super::*;

    fn question(run_id: &str, at: i64) -> ApprovalRow {
        ApprovalRow {
            tenant: "default".into(),
            run_id: run_id.into(),
            on_timeout: OnTimeout::Fail,
            state: ApprovalState::Pending,
            outcome_json: String::new(),
            decided_by: None,
            principal: None,
            comment: None,
            edited: None,
            requested_at: UnixMicros(at),
            expires_at: UnixMicros(at + 1),
            decided_at: None,
        }
    }

    #[test]
    fn a_link_opens_its_own_question_with_its_own_secret() {
        let links = ApprovalLinks::new(&SecretString::from("secret"));
        let asked = question("plan_1", 7);
        let path = links.path(&asked);
        let token = path.strip_prefix("/v1/plan/plan_1/approval?token=").unwrap();
        assert!(links.opens(&asked, token));
        assert_eq!(path, links.path(&asked), "it can be shown again");
        for (other, token) in [
            (question("plan_2", 7), token),
            (question("plan_1", 8), token),
            (question("plan_1", 7), ""),
            (question("plan_1", 7), "AAAA"),
            (question("plan_1", 7), &format!("{token}A")),
        ] {
            assert!(!links.opens(&other, token));
        }
        assert!(!ApprovalLinks::new(&SecretString::from("other")).opens(&asked, token));
    }
}
