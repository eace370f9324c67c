//! `docker-compose.yaml` and the Dockerfile, held against the code: variables, commands, images, grace periods.
//!
//! Owns the promise that the file an operator starts from fits this build. Must not need a container engine: whether
//! the same commands run as processes is for the end-to-end tests to say.

#[cfg(test)]
mod compose {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use cargo_metadata::{Metadata, MetadataCommand};
    use serde_norway::Value;
    use tokenhub_config::{Environment, Flags, KNOWN_VARIABLES, Loaded, Settings};

    const SECRETS_FOLDER: &str = "/run/secrets/";
    /// The drain of the API is spent twice at most: on connections, then on the runs of the process.
    const API_DRAINS: u64 = 2;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    fn metadata() -> Metadata {
        MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
    }

    fn programs() -> BTreeSet<String> {
        let metadata = metadata();
        let targets = metadata.workspace_packages().into_iter().flat_map(|package| package.targets.clone());
        targets.filter(cargo_metadata::Target::is_bin).map(|target| target.name).collect()
    }

    fn compose() -> Value {
        let text = fs::read_to_string(root().join("docker-compose.yaml")).unwrap();
        let mut file: Value = serde_norway::from_str(&text).unwrap();
        file.apply_merge().unwrap();
        file
    }

    fn dockerfile() -> Vec<String> {
        let text = fs::read_to_string(root().join("Dockerfile")).unwrap().replace("\\\n", " ");
        text.lines().map(str::to_owned).collect()
    }

    fn names(list: &Value) -> Vec<String> {
        list.as_sequence().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    fn keys(map: &Value) -> Vec<String> {
        map.as_mapping().into_iter().flat_map(|map| map.keys()).map(|key| key.as_str().unwrap().to_owned()).collect()
    }

    fn services(file: &Value) -> Vec<(String, Value)> {
        keys(&file["services"]).into_iter().map(|name| (name.clone(), file["services"][&name].clone())).collect()
    }

    /// The services that run a program of this workspace.
    fn ours(file: &Value) -> Vec<(String, Value)> {
        services(file).into_iter().filter(|(_, service)| !service["build"].is_null()).collect()
    }

    fn environment(service: &Value) -> Vec<(String, String)> {
        let variables = &service["environment"];
        keys(variables)
            .into_iter()
            .map(|name| {
                let value = variables[&name].as_str();
                assert!(value.is_some(), "{name} must be quoted: Compose reads 7233 and true as something else");
                (name.clone(), value.unwrap_or_default().to_owned())
            })
            .collect()
    }

    /// Seconds of a Compose duration such as `75s` or `1m30s`.
    fn secs(duration: &Value) -> u64 {
        let (mut total, mut digits) = (0, String::new());
        for letter in duration.as_str().unwrap().chars() {
            let unit = match letter {
                '0'..='9' => {
                    digits.push(letter);
                    continue;
                }
                'h' => 3_600,
                'm' => 60,
                's' => 1,
                other => panic!("unit {other} in a duration"),
            };
            total += unit * std::mem::take(&mut digits).parse::<u64>().unwrap();
        }
        assert!(digits.is_empty(), "a duration without a unit");
        total
    }

    /// The settings that a process of `service` would have, with stand-ins for the secrets.
    fn load(name: &str, service: &Value) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let environment: Environment = environment(service)
            .into_iter()
            .map(|(variable, value)| match value.strip_prefix(SECRETS_FOLDER) {
                None => (variable, value),
                Some(secret) => {
                    let stand_in = if secret == "database_url" { "postgres://u:p@postgres:5432/t" } else { "secret" };
                    let file = folder.path().join(secret);
                    fs::write(&file, stand_in).unwrap();
                    (variable, file.display().to_string())
                }
            })
            .collect();
        Settings::load(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn service<'a>(all: &'a [(String, Value)], program: &str) -> &'a (String, Value) {
        all.iter().find(|(_, service)| names(&service["command"])[0] == program).unwrap()
    }

    fn is_pinned(image: &str) -> bool {
        let tag = image.rsplit_once('/').map_or(image, |(_, name)| name).split_once(':').map(|(_, tag)| tag);
        tag.is_some_and(|tag| !tag.contains("latest") && tag.chars().any(|c| c.is_ascii_digit()) && tag.contains('.'))
            || tag.is_some_and(|tag| tag.chars().filter(char::is_ascii_digit).count() >= 8)
    }

    #[test]
    fn a_tag_pins_an_image_only_when_it_names_a_version_or_a_date() {
        for pinned in ["postgres:16.4-bookworm", "debian:bookworm-20250929-slim", "host:5000/a/b:1.2.3"] {
            assert!(is_pinned(pinned), "{pinned}");
        }
        for loose in ["postgres", "postgres:latest", "postgres:16", "debian:bookworm-slim", "host:5000/a/b"] {
            assert!(!is_pinned(loose), "{loose}");
        }
    }

    #[test]
    fn every_image_is_pinned_and_ours_has_the_version_of_the_workspace() {
        let file = compose();
        for (name, service) in services(&file) {
            let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
            assert!(is_pinned(image), "{name}: {image}");
        }
        let version = metadata().workspace_packages()[0].version.to_string();
        for (name, service) in ours(&file) {
            assert_eq!(service["image"].as_str(), Some(format!("tokenhub:{version}").as_str()), "{name}");
        }
        let bases: Vec<String> = dockerfile().into_iter().filter(|line| line.starts_with("FROM ")).collect();
        assert!(bases.len() >= 2);
        for base in bases {
            assert!(is_pinned(base.split_whitespace().nth(1).unwrap()), "{base}");
        }
    }

    #[test]
    fn every_variable_of_our_services_is_one_that_the_loader_knows() {
        for (name, service) in ours(&compose()) {
            let variables = environment(&service);
            assert!(!variables.is_empty(), "{name} has no environment");
            for (variable, _) in variables {
                assert!(KNOWN_VARIABLES.contains(&variable.as_str()), "{name}: {variable}");
            }
        }
    }

    #[test]
    fn the_settings_of_our_services_load_without_a_warning_and_point_at_each_other() {
        let file = compose();
        let our_services = ours(&file);
        for (name, service) in &our_services {
            let Loaded { settings, warnings, .. } = load(name, service);
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
            assert!(settings.database_url.starts_with("postgres://"), "{name} does not use PostgreSQL");
            let data_dir = settings.data_dir.display().to_string();
            let is_kept = names(&service["volumes"]).iter().any(|volume| volume.ends_with(&format!(":{data_dir}")));
            assert!(is_kept, "{name}: {data_dir} is not in a volume");
        }
        for program in ["tokenhub-api", "tokenhub-worker"] {
            let (name, service) = service(&our_services, program);
            let temporal = load(name, service).settings.temporal.unwrap();
            let (host, _) = temporal.address.split_once(':').unwrap();
            assert!(!file["services"][host].is_null(), "{name}: no service is called {host}");
            assert!(load(name, service).settings.has_configured_provider(), "{name} has no provider");
        }
        let (name, api) = service(&our_services, "tokenhub-api");
        let port = load(name, api).settings.listen_addr.port();
        assert!(names(&api["ports"]).iter().any(|mapping| mapping.ends_with(&format!(":{port}"))), "{port} is hidden");
    }

    #[test]
    fn every_command_is_a_program_of_this_workspace_that_the_image_holds() {
        let (programs, dockerfile) = (programs(), dockerfile());
        let build = dockerfile.iter().find(|line| line.contains("cargo build")).unwrap();
        assert!(build.contains("--locked") && build.contains("--profile dist"), "{build}");
        let commands: BTreeSet<Vec<String>> =
            ours(&compose()).iter().map(|(_, service)| names(&service["command"])).collect();
        let expected: [&[&str]; 3] = [&["tokenhub", "migrate"], &["tokenhub-api"], &["tokenhub-worker"]];
        assert_eq!(commands, expected.iter().map(|words| words.iter().map(ToString::to_string).collect()).collect());
        for command in commands {
            assert!(programs.contains(&command[0]), "{} is not a program", command[0]);
            assert!(build.split_whitespace().any(|word| word == format!("target/dist/{}", command[0])), "{command:?}");
        }
    }

    #[test]
    fn the_image_does_not_run_as_root() {
        let users: Vec<String> = dockerfile().into_iter().filter(|line| line.starts_with("USER ")).collect();
        assert_eq!(users, ["USER tokenhub"]);
    }

    #[test]
    fn container_names_are_fixed_and_each_is_used_once() {
        let services = services(&compose());
        let fixed: BTreeSet<String> = services
            .iter()
            .map(|(name, service)| service["container_name"].as_str().unwrap_or_else(|| panic!("{name}")).to_owned())
            .collect();
        assert_eq!(fixed.len(), services.len());
    }

    #[test]
    fn the_engine_waits_longer_than_the_processes_take_to_stop() {
        let our_services = ours(&compose());
        let (name, worker) = service(&our_services, "tokenhub-worker");
        let grace_secs = load(name, worker).settings.worker.grace_secs;
        assert!(secs(&worker["stop_grace_period"]) > grace_secs, "the worker takes {grace_secs} s");
        let (name, api) = service(&our_services, "tokenhub-api");
        let drain_secs = load(name, api).settings.shutdown_drain_secs;
        assert!(secs(&api["stop_grace_period"]) > API_DRAINS * drain_secs, "the API drains for {drain_secs} s");
    }

    #[test]
    fn the_namespace_that_our_services_use_is_the_one_that_is_created() {
        let file = compose();
        let creators: Vec<String> = services(&file)
            .iter()
            .filter_map(|(_, service)| names(&service["command"]).pop())
            .filter(|script| script.contains("namespace create"))
            .collect();
        assert_eq!(creators.len(), 1, "one service makes the namespace");
        let words: Vec<&str> = creators[0].split_whitespace().collect();
        let created: BTreeSet<&str> =
            words.windows(2).filter(|pair| pair[0] == "--namespace").map(|pair| pair[1]).collect();
        for program in ["tokenhub-api", "tokenhub-worker"] {
            let our_services = ours(&file);
            let (name, service) = service(&our_services, program);
            let used = load(name, service).settings.temporal.unwrap().namespace;
            assert_eq!(created, BTreeSet::from([used.as_str()]), "{name}");
        }
    }

    #[test]
    fn secrets_are_files_that_are_declared_and_granted_where_they_are_named() {
        let file = compose();
        let declared = keys(&file["secrets"]);
        for (name, service) in services(&file) {
            let granted = names(&service["secrets"]);
            for secret in &granted {
                assert!(declared.contains(secret), "{name}: {secret} is not declared");
            }
            for (variable, value) in environment(&service) {
                if let Some(secret) = value.strip_prefix(SECRETS_FOLDER) {
                    assert!(granted.iter().any(|one| one == secret), "{name}: {variable} names {secret}");
                }
                let is_secret = KNOWN_VARIABLES.contains(&format!("{variable}_FILE").as_str());
                assert!(!is_secret, "{name}: {variable} must be given as {variable}_FILE");
            }
        }
    }

    #[test]
    fn services_wait_for_services_that_exist_and_can_say_that_they_are_healthy() {
        let file = compose();
        for (name, service) in services(&file) {
            for other in keys(&service["depends_on"]) {
                let target = &file["services"][&other];
                assert!(!target.is_null(), "{name} waits for {other}");
                match service["depends_on"][&other]["condition"].as_str().unwrap() {
                    "service_healthy" => assert!(!target["healthcheck"].is_null(), "{other} has no health check"),
                    "service_completed_successfully" => {
                        assert_eq!(target["restart"].as_str(), Some("on-failure"), "{other} never completes");
                    }
                    other => panic!("{name}: {other}"),
                }
            }
        }
    }

    #[test]
    fn every_port_is_published_on_loopback_only() {
        for (name, service) in services(&compose()) {
            for port in names(&service["ports"]) {
                assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
            }
        }
    }
}
