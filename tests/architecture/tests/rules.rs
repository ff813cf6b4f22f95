//! The dependency rules of ARCHITECTURE.md, from cargo's own metadata and the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().expect("cargo metadata")
}

/// Names of what a package needs to run, tests left out.
fn normal(package: &Package) -> BTreeSet<String> {
    let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
    normal.map(|d| d.name.clone()).collect()
}

fn packages() -> BTreeMap<String, BTreeSet<String>> {
    metadata().packages.iter().map(|p| (p.name.to_string(), normal(p))).collect()
}

/// Packages that need, themselves, something whose name begins with `prefix`.
fn users_of(prefix: &str) -> BTreeSet<String> {
    let uses =
        |(name, needs): (String, BTreeSet<String>)| needs.iter().any(|need| need.starts_with(prefix)).then_some(name);
    packages().into_iter().filter_map(uses).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The lines of all Rust files below a folder, with their file.
fn lines_below(folder: &str) -> Vec<(PathBuf, String)> {
    let mut lines = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("readable");
                lines.extend(text.lines().map(|line| (path.clone(), line.to_owned())));
            }
        }
    }
    assert!(!lines.is_empty(), "{folder} has no Rust files");
    lines
}

#[test]
fn only_aws_names_the_sdk() {
    assert_eq!(users_of("aws-sdk-"), set(&["aws"]));
}

#[test]
fn only_the_trainer_names_burn_and_only_policy_names_tract() {
    assert_eq!(users_of("burn"), set(&["twinscaler"]));
    assert_eq!(users_of("tract"), set(&["policy"]));
}

#[test]
fn only_signing_names_the_library_of_signatures() {
    assert_eq!(users_of("aws-lc"), set(&["signing"]));
}

#[test]
fn the_trainer_does_not_compile_ec2_and_neither_does_the_evaluator() {
    let with_ec2 = metadata().packages.into_iter().filter(|p| {
        let ec2 = |d: &cargo_metadata::Dependency| {
            d.kind == DependencyKind::Normal && d.name == "aws" && d.features.iter().any(|f| f == "ec2")
        };
        p.dependencies.iter().any(ec2)
    });
    let names: BTreeSet<String> = with_ec2.map(|p| p.name.to_string()).collect();
    assert_eq!(names, set(&["executor", "e2e"]));
}

#[test]
fn the_pure_core_needs_no_runtime_and_no_service() {
    let packages = packages();
    for pure in ["contract", "controller", "twin", "policy"] {
        for need in &packages[pure] {
            let impure = ["aws", "tokio", "reqwest", "hyper", "lambda", "burn", "tracing"];
            assert!(!impure.iter().any(|i| need.starts_with(i)), "{pure} needs {need}");
        }
    }
}

#[test]
fn the_pure_core_has_no_clock_no_environment_and_no_global_randomness() {
    let forbidden = ["SystemTime", "Instant::now", "Timestamp::now", "std::env", "std::fs", "std::net", "rand::rng()"];
    for pure in ["crates/contract/src", "crates/controller/src", "crates/twin/src"] {
        for (path, line) in lines_below(pure) {
            let found = forbidden.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}: {line}", path.display());
        }
    }
}

#[test]
fn one_function_makes_the_networks_input() {
    let makers: BTreeSet<PathBuf> = ["crates", "functions", "trainer/src"]
        .into_iter()
        .flat_map(lines_below)
        .filter(|(_, line)| line.contains("fn encode(") && line.contains("Features"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(makers.len(), 1, "{makers:?}");
}

#[test]
fn the_lower_crates_do_not_know_the_upper_ones() {
    let packages = packages();
    let allowed: [(&str, &[&str]); 11] = [
        ("contract", &[]),
        ("controller", &["contract"]),
        ("twin", &["contract", "controller"]),
        ("backtest", &["contract", "controller", "twin"]),
        ("calibration", &["contract", "twin"]),
        ("traces", &["contract", "twin"]),
        ("policy", &["contract"]),
        ("signing", &["contract"]),
        ("promotion", &["contract", "controller", "policy", "signing"]),
        ("aws", &["contract", "controller"]),
        ("testkit", &["contract", "controller"]),
    ];
    for (name, below) in allowed {
        let own: BTreeSet<String> = packages[name].iter().filter(|n| packages.contains_key(*n)).cloned().collect();
        assert_eq!(own, set(below), "{name}");
    }
}

#[test]
fn the_functions_mains_are_wiring_only() {
    for function in ["evaluator", "executor"] {
        let path = root().join("functions").join(function).join("src/main.rs");
        let lines = std::fs::read_to_string(&path).expect("readable").lines().count();
        assert!(lines <= 60, "{} has {lines} lines", path.display());
    }
}

/// What the demo builds, by the Makefile's own line.
fn programs() -> Vec<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("readable");
    let line = makefile.lines().find_map(|l| l.strip_prefix("PROGRAMS := ")).expect("the Makefile lists PROGRAMS");
    line.split_whitespace().flat_map(|name| ["-p".to_owned(), name.to_owned()]).collect()
}

/// Each package that a selection compiles, with its features. Cargo may compile one package with several sets of them.
fn with_features(selection: &[String], edges: &str) -> BTreeSet<String> {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p} {f}", "--edges", edges])
        .args(selection)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("cargo writes UTF-8");
    text.lines().map(|line| line.trim_end_matches(" (*)").trim_end().to_owned()).filter(|l| !l.is_empty()).collect()
}

/// A feature more or less would compile a package, and everything above it, a second time.
#[test]
fn the_demos_programs_the_functions_and_the_tests_share_one_build() {
    let workspace = ["--workspace".to_owned()];
    let tests = with_features(&workspace, "normal,build,dev");
    for selection in [&programs()[..], &workspace] {
        let alone = with_features(selection, "normal,build");
        let again: Vec<&String> = alone.difference(&tests).collect();
        assert!(again.is_empty(), "{selection:?} compiles with other features than `make test`: {again:#?}");
    }
}
