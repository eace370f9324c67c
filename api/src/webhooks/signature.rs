//! Signatures as the Standard Webhooks specification has them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use tokenhub_config::WebhookSecret;
use tokenhub_domain::DeliveryId;

/// The `webhook-signature` header: one signature for each secret, so that a receiver may still have the old one.
pub(super) fn sign(secrets: &[WebhookSecret], id: &DeliveryId, timestamp: i64, body: &str) -> String {
    let content = format!("{id}.{timestamp}.{body}");
    let signed = secrets.iter().map(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, content.as_bytes())))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use tokenhub_config::{Environment, Settings};

    use super::*;

    #[test]
    fn the_specifications_own_example_has_its_signature_and_every_secret_signs() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let environment = Environment::from([("TOKENHUB_WEBHOOK_SECRET", format!("{secret} {secret}"))]);
        let settings = Settings::load(&tokenhub_config::Flags::new(), &environment).unwrap().settings;
        let id = DeliveryId::from("msg_p5jXN8AQM9LWM0D4loKWxJek");
        let signed = sign(&settings.webhooks.secrets, &id, 1_614_265_330, r#"{"test": 2432232314}"#);
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed, format!("{one} {one}"));
    }
}
