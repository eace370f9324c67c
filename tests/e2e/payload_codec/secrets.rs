//! Looking for a secret in all the forms in which bytes are usually written.

use base64::{Engine, engine::general_purpose::STANDARD};

fn hex(text: &str) -> String {
    text.bytes()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

/// The secret as it is, in hex, and in base64 wherever it begins in what was encoded.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex = hex(secret);
    let mut forms = vec![secret.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        let encoded = STANDARD.encode([&vec![0; before], secret.as_bytes()].concat());
        // Characters at the edges also hold bits of the neighbours.
        let whole = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
        forms.push(encoded.as_bytes()[whole].to_vec());
    }
    forms
}

/// Whether `bytes` hold the secret in any form.
pub fn shows(bytes: &[u8], secret: &str) -> bool {
    forms(secret).iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_slice()))
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "canary-of-a-test";
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{secret}{before}");
        for form in [text.clone(), STANDARD.encode(&text), hex(&text)] {
            assert!(shows(form.as_bytes(), secret), "{form}");
        }
    }
    assert!(!shows(STANDARD.encode("canary-of-another").as_bytes(), secret));
}
