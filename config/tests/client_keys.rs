//! Further client keys as the loader reads them: three sources, one list, no key shown.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tokenhub_config::{ConfigError, Environment, Flags, Live, Loaded, Settings};

const IN_FILE: &str = r#"{"client_keys": [{"name": "in-file", "key": "sk-canary-1", "tenant": "acme"}]}"#;
const IN_VARIABLE: &str = r#"[{"name": "in-variable", "key": "sk-canary-2", "tenant": "zeta"}]"#;
const IN_TOML: &str = "\n[[client_keys]]\nname = \"in-toml\"\nkey = \"env::THE_KEY\"\ntenant = \"acme\"\nweight = 2\n";

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tokenhub-config-client-keys-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
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

fn names(settings: &Settings) -> Vec<(&str, &str)> {
    settings.client_keys.iter().map(|key| (key.name.as_str(), key.tenant.as_str())).collect()
}

#[test]
fn three_sources_are_one_list_whose_table_shows_tenants_and_no_key() {
    let folder = Folder::new("sources");
    let (file, toml) = (folder.write("c.json", IN_FILE), folder.write("hub.toml", IN_TOML));
    let mut environment = vec![
        ("TOKENHUB_CREDENTIALS_FILE", file.as_str()),
        ("TOKENHUB_CONFIG", toml.as_str()),
        ("TOKENHUB_CLIENT_KEYS", IN_VARIABLE),
        ("THE_KEY", "sk-canary-3"),
    ];
    let loaded = load(&environment).unwrap();
    assert_eq!(names(&loaded.settings), [("in-toml", "acme"), ("in-file", "acme"), ("in-variable", "zeta")]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let table = loaded.origins.show();
    for (name, place) in [("in-toml", "hub.toml"), ("in-file", "c.json"), ("in-variable", "TOKENHUB_CLIENT_KEYS")] {
        let of_key = |line: &&str| line.starts_with(&format!("client_keys.{name} ")) && line.ends_with(place);
        assert!(table.lines().any(|line| of_key(&line)), "{name}: {table}");
    }
    assert!(!table.contains("canary") && !format!("{loaded:?}{:?}", loaded.settings.client_keys).contains("canary"));

    environment[3].1 = "sk-canary-1";
    let message = load(&environment).unwrap_err().to_string();
    assert!(message.contains("c.json: client key `in-file`: has the same key as `in-toml`"), "{message}");
    environment[3].1 = "sk-canary-3";
    environment.push(("TOKENHUB_CLIENT_KEY", "sk-canary-2"));
    let message = load(&environment).unwrap_err().to_string();
    assert!(message.contains("client key `in-variable`: has the same key as client_key"), "{message}");
}

#[test]
fn a_key_in_the_open_file_is_refused_and_its_digest_is_not() {
    let folder = Folder::new("literal");
    let toml = folder.write("hub.toml", &IN_TOML.replace("env::THE_KEY", "sk-canary"));
    let message = load(&[("TOKENHUB_CONFIG", &toml)]).unwrap_err().to_string();
    assert!(message.contains("hub.toml:2") && message.contains("client_keys.key"), "{message}");
    assert!(!message.contains("canary"), "{message}");
    let digest = format!("key_sha256 = \"{}\"", "ab".repeat(32));
    let toml = folder.write("hub.toml", &IN_TOML.replace("key = \"env::THE_KEY\"", &digest));
    assert_eq!(names(&load(&[("TOKENHUB_CONFIG", &toml)]).unwrap().settings), [("in-toml", "acme")]);
}

#[test]
fn a_reload_swaps_the_list_as_a_whole() {
    let folder = Folder::new("reload");
    let file = folder.write("c.json", IN_FILE);
    let environment = Environment::from([("TOKENHUB_CREDENTIALS_FILE", file.as_str())]);
    let (live, _) = Live::load(Flags::new(), environment).unwrap();
    folder.write("c.json", &IN_FILE.replace("in-file", "renamed"));
    assert_eq!(live.reload().unwrap().changed, ["client_keys.renamed"]);
    folder.write("c.json", &IN_FILE.replace("\"acme\"", "\"a:b\""));
    assert!(matches!(live.reload(), Err(ConfigError::BadClientKey { .. })));
    assert_eq!(names(&live.settings()), [("renamed", "acme")]);
}
