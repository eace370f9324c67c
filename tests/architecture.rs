//! The layout, held by a test: which crate may know which, how long a file may get, and what every file begins with.
//!
//! Owns the tables of allowed edges and forbidden names. A rule that hurts is changed here, with its reason, and not
//! worked around.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 60;

/// Crate folder -> the workspace crates it may depend on (without dev-dependencies).
const ALLOWED_EDGES: [(&str, &[&str]); 17] = [
    ("domain", &[]),
    ("orchestrate", &["domain"]),
    ("routing", &["domain"]),
    ("formats", &["domain"]),
    ("providers", &["domain"]),
    ("migrations", &[]),
    ("store", &["domain", "migrations"]),
    ("config", &["domain"]),
    ("telemetry", &["config", "domain"]),
    ("workflows", &["domain", "orchestrate"]),
    ("activities", &["domain", "orchestrate", "routing", "formats", "providers", "store", "workflows", "config"]),
    ("worker", &["domain", "activities", "workflows", "store", "config", "telemetry", "providers"]),
    (
        "api",
        &[
            "domain",
            "orchestrate",
            "routing",
            "formats",
            "providers",
            "store",
            "activities",
            "workflows",
            "config",
            "telemetry",
        ],
    ),
    ("demo", &[]),
    ("hub", &["domain", "api", "worker", "demo", "migrations", "config", "telemetry", "store", "providers"]),
    (
        "bench",
        &[
            "domain",
            "orchestrate",
            "routing",
            "providers",
            "store",
            "activities",
            "workflows",
            "config",
            "telemetry",
            "demo",
            "api",
            "worker",
        ],
    ),
    ("tests", &[]),
];

/// Crates that must stay free of I/O, and the direct dependencies that would end that.
const PURE_CRATES: [&str; 5] = ["domain", "orchestrate", "routing", "formats", "workflows"];
const IO_CRATES: [&str; 9] =
    ["tokio", "reqwest", "axum", "hyper", "sea-orm", "sqlx", "temporalio-client", "temporalio-sdk", "rand"];

/// What the product is built on, each used directly by at least one crate.
const FOUNDATIONS: [&str; 10] = [
    "temporalio-sdk",
    "temporalio-sdk-core",
    "tokio",
    "tonic",
    "reqwest",
    "serde",
    "sea-orm",
    "uuid",
    "chrono",
    "tracing",
];

const FORBIDDEN_FILE_NAMES: [&str; 7] =
    ["mod.rs", "utils.rs", "util.rs", "common.rs", "helpers.rs", "manager.rs", "misc.rs"];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn folder_of(package: &str) -> String {
    package.trim_start_matches("tokenhub-").to_owned()
}

/// Workspace crate folder -> its direct normal and build dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    metadata()
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let names = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.clone());
            (folder_of(&package.name), names.collect())
        })
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() && !["target", "data", "node_modules"].contains(&name.as_str()) && !name.starts_with('.') {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The lines before the unit tests.
fn production_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod "))
        .unwrap_or(lines.len());
    lines[..end].to_vec()
}

/// Name and length of every function, by the indentation that rustfmt gives its first and last line.
fn function_lengths(lines: &[&str]) -> Vec<(String, usize)> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(position) = words.iter().position(|word| *word == "fn") else { continue };
        let qualifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "extern"];
        if !words[..position].iter().all(|word| qualifiers.contains(word)) {
            continue;
        }
        let end = lines[start..]
            .iter()
            .position(|later| indentation(later) == indentation(line) && ["}", ");", "};"].contains(&later.trim()));
        let one_line = line.trim_end().ends_with(['}', ';']);
        let length = if one_line { 1 } else { end.map_or(1, |end| end + 1) };
        let name: String =
            words.get(position + 1).unwrap_or(&"").chars().take_while(|c| *c != '(' && *c != '<').collect();
        functions.push((name, length));
    }
    functions
}

#[test]
fn every_crate_depends_only_on_what_its_place_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED_EDGES.into_iter().collect();
    for (folder, names) in dependencies() {
        let Some(edges) = allowed.get(folder.as_str()) else { panic!("{folder} has no row in the table of edges") };
        for name in names.iter().filter(|name| name.starts_with("tokenhub-")) {
            let target = folder_of(name);
            assert!(edges.contains(&target.as_str()), "{folder} must not depend on {target}");
        }
    }
}

#[test]
fn the_deterministic_crates_have_no_direct_dependency_on_io() {
    let dependencies = dependencies();
    for folder in PURE_CRATES {
        for name in IO_CRATES {
            assert!(!dependencies[folder].contains(name), "{folder} must not depend on {name}");
        }
    }
}

#[test]
fn the_deterministic_crates_ban_clocks_and_unordered_maps() {
    for folder in ["orchestrate", "routing", "workflows"] {
        let text = fs::read_to_string(root().join(folder).join("clippy.toml")).unwrap();
        for banned in ["std::time::SystemTime::now", "std::time::Instant::now", "std::collections::HashMap::iter"] {
            assert!(text.contains(banned), "{folder}/clippy.toml must ban {banned}");
        }
    }
}

#[test]
fn what_the_product_is_built_on_is_used_directly() {
    let used: BTreeSet<String> = dependencies().into_values().flatten().collect();
    for name in FOUNDATIONS {
        assert!(used.contains(name), "no crate depends on {name}");
    }
}

#[test]
fn every_file_says_what_it_owns_before_anything_else() {
    for file in rust_files(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} has no module documentation", file.display());
    }
}

#[test]
fn no_file_and_no_function_is_too_long() {
    let mut offenders = Vec::new();
    for file in rust_files(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = production_lines(&text);
        let shown = file.strip_prefix(root()).unwrap().display().to_string();
        let is_test = shown.starts_with("tests/") || shown.contains("/tests/");
        if lines.len() > FILE_LINES_MAX {
            offenders.push(format!("{shown} has {} lines", lines.len()));
        }
        for (name, length) in function_lengths(&lines) {
            if length > FUNCTION_LINES_MAX && !is_test {
                offenders.push(format!("{shown}: {name} has {length} lines"));
            }
        }
    }
    assert!(offenders.is_empty(), "{}", offenders.join("\n"));
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    for file in rust_files(&root()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(!FORBIDDEN_FILE_NAMES.contains(&name), "{}", file.display());
    }
}

#[test]
fn every_crate_inherits_the_lints_of_the_workspace() {
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has lints of its own", package.name);
    }
}

#[test]
fn the_measures_of_this_test_measure() {
    let text = "//! Doc.\nfn short() {\n    1\n}\n#[cfg(test)]\nmod tests {\n    fn inside() {}\n}\n";
    assert_eq!(production_lines(text).len(), 4);
    assert_eq!(function_lengths(&production_lines(text)), [("short".to_owned(), 3)]);
}
