//! The keys that encrypt payloads, and the pages that may have them decoded, as the loader reads them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::{fs, path::PathBuf};

use tokenhub_config::{ConfigError, Environment, Flags, Live, Loaded, Settings};

/// 32 bytes of 1 and of 2.
const ONES: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TWOS: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tokenhub-config-payloads-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Settings::load(&Flags::new(), &environment.iter().copied().collect())
}

fn loaded(environment: &[(&str, &str)]) -> Loaded {
    load(environment).unwrap()
}

fn refusal(result: Result<Loaded, ConfigError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn payload_keys_come_from_a_variable_or_a_file_stay_as_they_were_at_start_and_are_never_shown() {
    let ids =
        |settings: &Settings| -> Vec<String> { settings.payload_keys.iter().map(|key| key.id.to_string()).collect() };
    assert!(loaded(&[]).settings.payload_keys.is_empty());
    let folder = Folder::new();
    let file = folder.write("keys", &format!("b:{TWOS}\na:{ONES}\n"));
    let (live, _) =
        Live::load(Flags::new(), Environment::from([("TOKENHUB_PAYLOAD_KEYS_FILE", file.as_str())])).unwrap();
    assert_eq!(ids(&live.settings()), ["b", "a"]);
    assert!(!live.origins().show().contains("AgIC"), "{}", live.origins().show());
    folder.write("keys", &format!("a:{ONES}\n"));
    live.reload().unwrap();
    assert_eq!(ids(&live.settings()), ["b", "a"], "clients and workers hold what they began with");

    let literal = folder.write("hub.toml", &format!("[temporal]\npayload_keys = \"a:{ONES}\"\n"));
    let refused = refusal(load(&[("TOKENHUB_CONFIG", &literal)]));
    assert!(refused.contains("temporal.payload_keys") && !refused.contains("AQEB"), "{refused}");
    let named = folder.write("hub.toml", "[temporal]\npayload_keys = \"env::OURS\"\n");
    let settings = loaded(&[("TOKENHUB_CONFIG", &named), ("OURS", &format!("a:{ONES}"))]).settings;
    assert_eq!(ids(&settings), ["a"]);
    let wrong = refusal(load(&[("TOKENHUB_PAYLOAD_KEYS", &format!("a:{ONES},a:{TWOS}"))]));
    assert_eq!(
        wrong,
        "TOKENHUB_PAYLOAD_KEYS: `********` is not valid for temporal.payload_keys, expected every id once"
    );
}

#[test]
fn the_temporal_ui_may_have_payloads_decoded_unless_other_pages_are_named() {
    let ui = [("TEMPORAL_ADDRESS", "t:7233"), ("TOKENHUB_TEMPORAL_UI_URL", "https://ui.example/temporal/")];
    let origins = |more: &[(&str, &str)]| loaded(&[&ui[..], more].concat()).settings.codec_cors_origins;
    assert!(origins(&[]).allows(b"https://ui.example"));
    let named = origins(&[("TOKENHUB_CODEC_CORS_ORIGIN", "https://other.example")]);
    assert!(named.allows(b"https://other.example") && !named.allows(b"https://ui.example"));
    assert!(!loaded(&[]).settings.codec_cors_origins.allows(b"https://ui.example"));
    assert!(refusal(load(&[("TOKENHUB_CODEC_CORS_ORIGIN", "*")])).contains("codec_cors_origin"));
}
