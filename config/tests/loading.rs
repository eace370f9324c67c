//! The loader from outside: which layer wins, what is refused, what a reload does, how key files are made.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
};

use tokenhub_config::{ConfigError, Environment, ExposeSecret, Flags, Live, Loaded, Origin, Settings, keys};
use tokenhub_domain::{Capability, CredentialId, ProviderId, ProviderOrigin};

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tokenhub-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
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

/// The message with its causes.
fn refusal(result: Result<Loaded, ConfigError>) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn each_layer_wins_over_the_next_and_says_so() {
    let folder = Folder::new("layers");
    let file = folder.write("hub.toml", "\nlisten_addr = \"127.0.0.1:3\"\n", 0o644);
    let row = |flags: &Flags, environment: &[(&str, &str)]| {
        let loaded = Settings::load(flags, &environment.iter().copied().collect()).unwrap();
        (loaded.settings.listen_addr.port(), loaded.origins.of("listen_addr").unwrap().origin.clone())
    };
    let flag = Flags::from([("listen", "127.0.0.1:1".to_owned())]);
    let variables = [("TOKENHUB_CONFIG", file.as_str()), ("TOKENHUB_LISTEN_ADDR", "127.0.0.1:2")];
    assert_eq!(row(&flag, &variables), (1, Origin::Flag("listen")));
    assert_eq!(row(&Flags::new(), &variables), (2, Origin::Variable("TOKENHUB_LISTEN_ADDR".into())));
    assert_eq!(row(&Flags::new(), &variables[..1]), (3, Origin::File { path: file.clone().into(), line: 2 }));
    assert_eq!(row(&Flags::new(), &[]), (8080, Origin::Default));
    let named_by_flag = Flags::from([("config", file)]);
    assert_eq!(row(&named_by_flag, &[("TOKENHUB_CONFIG", "/nowhere.toml")]).0, 3);
}

#[test]
fn values_that_do_not_parse_are_refused_by_name() {
    let message = refusal(load(&[("TOKENHUB_BREAKER_FAILURES", "three")]));
    assert_eq!(message, "TOKENHUB_BREAKER_FAILURES: `three` is not valid for breaker.failures, expected 1 to 1000");
    assert!(refusal(load(&[("TOKENHUB_DEFAULT_MODE", "fast")])).contains("TOKENHUB_DEFAULT_MODE"));
    assert!(refusal(load(&[("TOKENHUB_DEFAULT_MAX_BUDGET_USD", "-1")])).contains("dollars"));
    assert!(refusal(load(&[("TOKENHUB_TEMPORAL_ENABLED", "maybe")])).contains("true or false"));
    assert!(refusal(load(&[("TOKENHUB_PROVIDER_TIMEOUT_SECS", "1.5")])).contains("whole number of seconds"));
    assert!(refusal(load(&[("TOKENHUB_CONFIG", "/nowhere/hub.toml")])).contains("/nowhere/hub.toml"));
    let secret = refusal(load(&[("TOKENHUB_CLIENT_KEY", "hidden value")]));
    assert!(secret.contains("TOKENHUB_CLIENT_KEY") && !secret.contains("hidden"), "{secret}");
    let database = refusal(load(&[("DATABASE_URL", "mysql://hub:hidden@db/hub")]));
    assert!(database.contains("DATABASE_URL") && !database.contains("hidden"), "{database}");
}

#[test]
fn a_secret_comes_from_its_variable_or_its_file_but_not_from_both() {
    let folder = Folder::new("secret");
    let file = folder.write("key", "from-file\n", 0o600);
    let settings = loaded(&[("TOKENHUB_CLIENT_KEY_FILE", &file)]).settings;
    assert_eq!(settings.client_key.unwrap().expose_secret(), "from-file");
    let message = refusal(load(&[("TOKENHUB_CLIENT_KEY_FILE", &file), ("TOKENHUB_CLIENT_KEY", "x")]));
    assert_eq!(message, "TOKENHUB_CLIENT_KEY and TOKENHUB_CLIENT_KEY_FILE are both set, keep one of them");
    assert!(refusal(load(&[("OPENAI_API_KEY_FILE", &file), ("OPENAI_API_KEY", "x")])).contains("OPENAI_API_KEY_FILE"));
    let missing = refusal(load(&[("TOKENHUB_ADMIN_TOKEN_FILE", "/nowhere")]));
    assert!(missing.contains("TOKENHUB_ADMIN_TOKEN_FILE") && missing.contains("/nowhere"), "{missing}");
}

#[test]
fn names_of_the_go_version_keep_working() {
    let settings = loaded(&[
        ("TOKENHUB_TEMPORAL_HOST", "temporal:7233"),
        ("TOKENHUB_TEMPORAL_NAMESPACE", "hub"),
        ("TOKENHUB_TEMPORAL_TASK_QUEUE", "queue"),
        ("TOKENHUB_PROVIDER_TIMEOUT_SECS", "30"),
        ("TOKENHUB_DB_DSN", "file:/srv/hub.sqlite?_pragma=x"),
        ("TOKENHUB_DEFAULT_MODE", "high_confidence"),
    ])
    .settings;
    let temporal = settings.temporal.unwrap();
    assert_eq!(
        (temporal.address.as_str(), temporal.namespace.as_str(), temporal.task_queue.as_str()),
        ("temporal:7233", "hub", "queue")
    );
    assert_eq!(settings.timeouts.total_ms, 30_000);
    assert_eq!(settings.database_url, "sqlite:///srv/hub.sqlite?mode=rwc");
    assert_eq!(settings.default_profile.as_str(), "high_confidence");
    let both = loaded(&[("TOKENHUB_TEMPORAL_HOST", "old:1"), ("TEMPORAL_ADDRESS", "new:2")]).settings;
    assert_eq!(both.temporal.unwrap().address, "new:2");
}

#[test]
fn temporal_is_off_without_an_address_and_can_be_switched_off() {
    assert_eq!(loaded(&[]).settings.temporal, None);
    assert!(loaded(&[]).settings.up.temporal_server);
    assert!(!loaded(&[("TEMPORAL_ADDRESS", "t:7233")]).settings.up.temporal_server);
    assert!(!loaded(&[("TOKENHUB_TEMPORAL_ENABLED", "off")]).settings.up.temporal_server);
    let enabled = loaded(&[("TOKENHUB_TEMPORAL_ENABLED", "true")]);
    assert_eq!(enabled.settings.temporal, None);
    assert!(enabled.warnings[0].contains("TEMPORAL_ADDRESS"));
    let off = [("TEMPORAL_ADDRESS", "t:7233"), ("TOKENHUB_TEMPORAL_ENABLED", "false")];
    assert_eq!(loaded(&off).settings.temporal, None);
    let on = loaded(&[("TEMPORAL_ADDRESS", "t:7233")]).settings.temporal.unwrap();
    assert_eq!((on.namespace.as_str(), on.task_queue.as_str()), ("default", "tokenhub"));
    let flag = Flags::from([("no-temporal", "false".to_owned())]);
    let environment = Environment::from([("TEMPORAL_ADDRESS", "t:7233")]);
    assert_eq!(Settings::load(&flag, &environment).unwrap().settings.temporal, None);
}

#[test]
fn an_address_in_the_file_of_temporal_is_found_through_its_variables() {
    let folder = Folder::new("temporal-toml");
    let text =
        "[profile.default]\naddress = \"a:1\"\n[profile.prod]\naddress = \"b:2\"\nnamespace = \"n\"\napi_key = \"x\"";
    let file = folder.write("temporal.toml", text, 0o600);
    let temporal = loaded(&[("TEMPORAL_CONFIG_FILE", &file), ("TEMPORAL_PROFILE", "prod")]).settings.temporal.unwrap();
    assert_eq!((temporal.address.as_str(), temporal.namespace.as_str()), ("b:2", "n"));
    let overridden =
        loaded(&[("TEMPORAL_CONFIG_FILE", &file), ("TEMPORAL_NAMESPACE", "mine")]).settings.temporal.unwrap();
    assert_eq!((overridden.address.as_str(), overridden.namespace.as_str()), ("a:1", "mine"));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = loaded(&[("TOKENHUB_DATA_DIR", "/srv/hub")]).settings;
    assert_eq!(settings.database_url, "sqlite:///srv/hub/tokenhub.db?mode=rwc");
    assert_eq!(settings.default_max_budget, None);
    assert_eq!((settings.breaker.failures, settings.breaker.open_ms), (3, 30_000));
    let t = settings.timeouts;
    let all = (t.connect_ms, t.headers_ms, t.first_token_ms, t.idle_ms, t.total_ms);
    assert_eq!(all, (5_000, 60_000, 120_000, 60_000, 600_000));
    assert!(!settings.has_configured_provider());
    assert!(loaded(&[("TOKENHUB_DATA_DIR", "relative")]).settings.data_dir.is_absolute());
}

const CREDENTIALS: &str = r#"{"providers":[{"id":"up","base_url":"https://llm.example/v1","api_key":"sk-up"}],
    "models":[{"id":"org/model:7b.K+x@1","provider_id":"up","weight":7,"input_per_1k":0.001}]}"#;

#[test]
fn a_credentials_file_is_read_when_only_its_owner_can_read_it() {
    let folder = Folder::new("credentials");
    let file = folder.write("c.json", CREDENTIALS, 0o600);
    let settings = loaded(&[("TOKENHUB_CREDENTIALS_FILE", &file)]).settings;
    assert_eq!(settings.catalogue.models[0].id.as_str(), "org/model:7b.K+x@1");
    assert_eq!(settings.catalogue.providers[0].base_url, "https://llm.example");
    assert_eq!(settings.credentials[&ProviderId::from("up")][&CredentialId::default()].expose_secret(), "sk-up");
    assert!(settings.has_configured_provider());
    for mode in [0o640, 0o604, 0o644] {
        folder.write("c.json", CREDENTIALS, mode);
        let message = refusal(load(&[("TOKENHUB_CREDENTIALS_FILE", &file)]));
        assert!(message.contains(&format!("{mode:04o}")) && message.contains("chmod 600"), "{message}");
    }
    let unknown = folder.write("d.json", r#"{"providers":[{"id":"p","base_ulr":"x"}]}"#, 0o600);
    let message = refusal(load(&[("TOKENHUB_CREDENTIALS_FILE", &unknown)]));
    assert!(message.contains("unknown field `base_ulr`") && message.contains("d.json"), "{message}");
}

#[test]
fn secrets_in_the_configuration_file_are_references() {
    let folder = Folder::new("references");
    let provider = |key: &str| format!("\n[[providers]]\nid = \"p\"\nbase_url = \"http://h\"\napi_key = \"{key}\"\n");
    let file = folder.write("hub.toml", &provider("env::MY_KEY"), 0o644);
    let settings = loaded(&[("TOKENHUB_CONFIG", &file), ("MY_KEY", "sk-1")]).settings;
    assert_eq!(settings.credentials[&ProviderId::from("p")][&CredentialId::default()].expose_secret(), "sk-1");
    assert!(refusal(load(&[("TOKENHUB_CONFIG", &file)])).contains("the variable MY_KEY is not set"));
    let key_file = folder.write("key", "sk-2\n", 0o600);
    folder.write("hub.toml", &provider(&format!("file::{key_file}")), 0o644);
    let settings = loaded(&[("TOKENHUB_CONFIG", &file)]).settings;
    assert_eq!(settings.credentials[&ProviderId::from("p")][&CredentialId::default()].expose_secret(), "sk-2");
    folder.write("hub.toml", &provider("sk-literal"), 0o644);
    let message = refusal(load(&[("TOKENHUB_CONFIG", &file)]));
    assert!(message.contains("hub.toml:2") && !message.contains("sk-literal"), "{message}");
    folder.write("hub.toml", "client_key = \"literal\"", 0o644);
    let message = refusal(load(&[("TOKENHUB_CONFIG", &file)]));
    assert!(message.contains("hub.toml:1") && !message.contains("literal\""), "{message}");
}

#[test]
fn a_key_alone_enables_its_provider_and_fills_one_that_a_file_defines() {
    let loaded_keys = loaded(&[
        ("OPENAI_API_KEY", "sk-o"),
        ("OPENAI_BASE_URL", "http://localhost:9/v1"),
        ("OPENROUTER_API_KEY", "sk-r"),
        ("ANTHROPIC_API_KEY", "sk-a"),
    ]);
    let providers = &loaded_keys.settings.catalogue.providers;
    let ids: Vec<_> = providers.iter().map(|p| (p.id.as_str(), p.base_url.as_str(), p.autoload_models)).collect();
    let expected = [
        ("openai", "http://localhost:9", true),
        ("anthropic", "https://api.anthropic.com", true),
        ("openrouter", "https://openrouter.ai/api", true),
    ];
    assert_eq!(ids, expected);
    assert!(loaded_keys.warnings.is_empty(), "{:?}", loaded_keys.warnings);
    let folder = Folder::new("fill");
    let file = folder.write("c.json", r#"{"providers":[{"id":"openai","base_url":"http://mine"}]}"#, 0o600);
    let settings = loaded(&[("TOKENHUB_CREDENTIALS_FILE", &file), ("OPENAI_API_KEY", "sk-o")]).settings;
    assert_eq!(settings.catalogue.providers.len(), 1);
    assert_eq!(settings.credentials[&ProviderId::from("openai")][&CredentialId::default()].expose_secret(), "sk-o");
}

#[test]
fn models_of_the_hub_are_marked_and_do_not_count_as_configured() {
    let json = r#"{"providers":[{"id":"local","base_url":"http://127.0.0.1:1","origin":"local"},
        {"id":"demo","base_url":"http://127.0.0.1:2","origin":"demo"}],"models":[]}"#;
    let settings = loaded(&[("TOKENHUB_EPHEMERAL_PROVIDERS", json)]).settings;
    let origins: Vec<_> = settings.catalogue.providers.iter().map(|provider| provider.origin).collect();
    assert_eq!(origins, [ProviderOrigin::Local, ProviderOrigin::Demo]);
    assert!(!settings.has_configured_provider());
}

#[test]
fn the_table_of_origins_shows_no_secret() {
    let folder = Folder::new("masking");
    let file = folder.write("c.json", CREDENTIALS, 0o600);
    let loaded = loaded(&[
        ("TOKENHUB_CLIENT_KEY", "ck-secret"),
        ("TOKENHUB_ADMIN_TOKEN", "at-secret"),
        ("DATABASE_URL", "postgres://hub:db-secret@db/hub"),
        ("TOKENHUB_CREDENTIALS_FILE", &file),
    ]);
    let table = loaded.origins.show();
    for secret in ["ck-secret", "at-secret", "db-secret", "sk-up"] {
        assert!(!table.contains(secret), "{table}");
        assert!(!format!("{loaded:?}").contains(secret));
    }
    assert!(table.lines().any(|line| line.contains("client_key") && line.contains("TOKENHUB_CLIENT_KEY")));
    assert!(table.contains("postgres://hub:********@db/hub"));
    assert!(table.lines().any(|line| line.contains("providers.up.api_key") && line.contains("c.json")));
}

#[test]
fn a_reload_swaps_what_may_change_and_keeps_everything_when_a_file_is_wrong() {
    let folder = Folder::new("reload");
    let file = folder.write("c.json", CREDENTIALS, 0o600);
    let toml = folder.write("hub.toml", "[timeouts]\ntotal_ms = 1000\n", 0o644);
    let environment = Environment::from([("TOKENHUB_CREDENTIALS_FILE", &file), ("TOKENHUB_CONFIG", &toml)]);
    let (live, _) = Live::load(Flags::new(), environment).unwrap();
    let held = live.settings();
    assert_eq!(held.catalogue.version, 1);

    folder.write("c.json", &CREDENTIALS.replace("sk-up", "sk-new").replace("\"weight\":7", "\"weight\":8"), 0o600);
    folder.write("hub.toml", "listen_addr = \"127.0.0.1:1\"\n[timeouts]\ntotal_ms = 2000\n", 0o644);
    let reloaded = live.reload().unwrap();
    assert_eq!(reloaded.changed, ["timeouts.total_ms", "providers and models"]);
    assert_eq!(reloaded.after_restart, ["listen_addr"]);
    let now = live.settings();
    assert_eq!((now.timeouts.total_ms, now.listen_addr.port(), now.catalogue.version), (2_000, 8_080, 2));
    assert_eq!(now.credentials[&ProviderId::from("up")][&CredentialId::default()].expose_secret(), "sk-new");
    assert_eq!((held.timeouts.total_ms, held.catalogue.models[0].weight), (1_000, 7));

    folder.write("c.json", "{", 0o600);
    folder.write("hub.toml", "[timeouts]\ntotal_ms = 3000\n", 0o644);
    assert!(matches!(live.reload(), Err(ConfigError::ParseProviders { .. })));
    assert!(std::sync::Arc::ptr_eq(&now, &live.settings()));
}

#[test]
fn a_key_file_is_made_once_for_its_owner_only() {
    let folder = Folder::new("keys");
    let path = folder.0.join("deep/client-key");
    let first = keys::ensure_secret_file(&path).unwrap();
    let text = first.expose_secret();
    assert!(text.strip_prefix("tokenhub_").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    }));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(keys::ensure_secret_file(&path).unwrap().expose_secret(), text);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(keys::ensure_secret_file(&path), Err(keys::KeyFileError::Mode { mode: 0o644, .. })));
    folder.write("empty", "", 0o600);
    assert!(matches!(keys::ensure_secret_file(&folder.0.join("empty")), Err(keys::KeyFileError::Empty { .. })));
}

#[test]
fn processes_that_start_together_agree_on_the_key() {
    let folder = Folder::new("race");
    let path: &Path = &folder.0.join("client-key");
    let together = Barrier::new(8);
    let secrets: Vec<String> = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    keys::ensure_secret_file(path).unwrap().expose_secret().to_owned()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert!(secrets.iter().all(|secret| secret == &secrets[0]));
}

#[test]
fn a_quirk_of_a_wrong_type_is_refused_with_its_line() {
    let folder = Folder::new("quirks");
    let toml = "[[providers]]\nid = \"p\"\ntype = \"vllm\"\nbase_url = \"http://h\"\n\n[[models]]\nid = \"m\"\nprovider_id = \"p\"\n";
    let of = |line: &str| {
        refusal(load(&[("TOKENHUB_CONFIG", &folder.write("hub.toml", &format!("{toml}{line}\n"), 0o644))]))
    };
    let refused = of("gemma4_output = \"yes\"");
    assert!(refused.contains("hub.toml:9") && refused.contains("boolean"), "{refused}");
    let refused = of("tool_name_map = [\"a\"]");
    assert!(refused.contains("hub.toml:9") && refused.contains("map"), "{refused}");
    let json = "{\"providers\":[{\"id\":\"p\",\"type\":\"vllm\",\"base_url\":\"http://h\"}],\n \"models\":[{\"id\":\"m\",\"provider_id\":\"p\",\n \"tool_name_map\":{\"a\":1}}]}";
    let refused = refusal(load(&[("TOKENHUB_CREDENTIALS_FILE", &folder.write("c.json", json, 0o600))]));
    assert!(refused.contains("expected a string at line 3 column"), "{refused}");
}

#[test]
fn aliases_fallbacks_and_capabilities_stand_in_the_file() {
    let folder = Folder::new("aliases");
    let provider = "[[providers]]\nid = \"p\"\nbase_url = \"http://h\"\n";
    let model = "[[models]]\nid = \"m\"\nprovider_id = \"p\"\ncapabilities = { tools = false }\nfallbacks = [\"n\"]\n";
    let alias = "[[aliases]]\nname = \"smart\"\nvariants = [{ model = \"m\", weight = 9 }, { model = \"p/n\" }]\n";
    let write = |text: &str| folder.write("hub.toml", &format!("{provider}{model}{alias}{text}"), 0o644);
    let catalogue = loaded(&[("TOKENHUB_CONFIG", &write(""))]).settings.catalogue;
    assert_eq!(catalogue.models[0].fallbacks, ["n"]);
    assert_eq!(catalogue.models[0].capabilities.missing(&Capability::ALL), Some(Capability::Tools));
    let alias = catalogue.alias("smart").unwrap();
    assert_eq!(alias.variants.iter().map(|one| one.weight).collect::<Vec<_>>(), [9, 1]);
    let refused = refusal(load(&[("TOKENHUB_CONFIG", &write("wieght = 1\n"))]));
    assert!(refused.contains("hub.toml:12") && refused.contains("wieght"), "{refused}");
    let twice = refusal(load(&[(
        "TOKENHUB_CONFIG",
        &write("[[aliases]]\nname = \"smart\"\nvariants = [{ model = \"m\" }]\n"),
    )]));
    assert!(twice.ends_with("alias `smart`: defined twice"), "{twice}");
}
