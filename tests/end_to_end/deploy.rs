//! What is written for Kubernetes and Grafana must fit the binary.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::end_to_end::harness::{root, temp_dir};

fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(root().join("deploy").join(file)).expect("readable");
    text.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{file}: {e}"))).collect()
}

fn help() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_binnacle")).arg("--help").output().expect("it runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The value of `--name=value` among a container's arguments.
fn flag<'a>(arguments: &'a [Value], name: &str) -> Option<&'a str> {
    let prefix = format!("--{name}=");
    arguments.iter().filter_map(Value::as_str).find_map(|argument| argument.strip_prefix(prefix.as_str()))
}

#[test]
fn manifests_use_flags_ports_and_paths_that_the_binary_has() {
    let help = help();
    for (file, kind) in [("agent.yaml", "DaemonSet"), ("server.yaml", "StatefulSet"), ("events.yaml", "Deployment")] {
        let documents = documents(file);
        let workload = documents.iter().find(|document| document["kind"] == kind).expect(kind);
        let spec = &workload["spec"]["template"]["spec"];
        let container = &spec["containers"][0];
        let arguments = container["args"].as_array().expect("arguments");
        for argument in arguments.iter().filter_map(Value::as_str).filter(|argument| argument.starts_with("--")) {
            let name = argument.split('=').next().expect("a name");
            assert!(help.contains(name), "{file}: {name} is no flag of binnacle");
        }
        let port = &container["ports"][0];
        let listen = flag(arguments, "web.listen-address").expect("listens");
        assert!(listen.ends_with(&format!(":{}", port["containerPort"])), "{file}: {listen} and {port}");
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], port["name"], "{file}: {probe}");
        }
        let volumes = names(&spec["volumes"]);
        let claims = workload["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
        let claimed = claims.filter_map(|claim| claim["metadata"]["name"].as_str().map(str::to_owned));
        let there: BTreeSet<String> = volumes.into_iter().chain(claimed).collect();
        assert_eq!(names(&container["volumeMounts"]), there, "{file}: every volume is mounted, every mount a volume");
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        for path in arguments.iter().filter_map(Value::as_str).filter_map(|a| a.strip_prefix("--path.")) {
            let (_, path) = path.split_once('=').expect("a path");
            let is_mounted = |mount: &Value| path.starts_with(mount["mountPath"].as_str().unwrap_or("?"));
            assert!(mounts.iter().any(is_mounted), "{file}: {path} is not mounted");
        }
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_agents_push_url_names_the_service() {
    let agent = documents("agent.yaml");
    let daemon = agent.iter().find(|document| document["kind"] == "DaemonSet").expect("a daemon");
    let arguments = daemon["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("arguments").clone();
    let server = documents("server.yaml");
    let service = server.iter().find(|document| document["kind"] == "Service").expect("a service");
    let (name, space) = (&service["metadata"]["name"], &service["metadata"]["namespace"]);
    let expected = format!(
        "http://{}.{}.svc:{}",
        name.as_str().expect("named"),
        space.as_str().expect("in a namespace"),
        service["spec"]["ports"][0]["port"]
    );
    assert_eq!(flag(&arguments, "agent.push-url"), Some(expected.as_str()));
    let events = documents("events.yaml");
    let config = events.iter().find_map(|document| document["data"]["agent.yml"].as_str()).expect("a configuration");
    assert!(config.contains(&format!("url: '{expected}'")), "{config}");
}

#[test]
fn configurations_are_taken_by_the_binary() {
    let dir = temp_dir();
    for file in ["agent.yaml", "server.yaml", "events.yaml"] {
        let documents = documents(file);
        let texts = documents.iter().filter_map(|document| document["data"].as_object()).flatten();
        let mut checked = 0;
        for (name, text) in texts.filter(|(name, _)| *name != "alertmanager.yml") {
            let path = dir.path().join(name);
            fs::write(&path, text.as_str().expect("text")).expect("written");
            let output = Command::new(env!("CARGO_BIN_EXE_binnacle")).args(["check", "config"]).arg(&path).output();
            let output = output.expect("it runs");
            assert!(output.status.success(), "{file}: {name}: {}", String::from_utf8_lossy(&output.stderr));
            checked += 1;
        }
        assert_eq!(checked, 1, "{file}");
    }
}

#[test]
fn the_image_runs_the_binary_with_its_flags() {
    let text = fs::read_to_string(root().join("deploy/Dockerfile")).expect("readable");
    let command = text.lines().find_map(|line| line.strip_prefix("CMD ")).expect("a command");
    let arguments: Vec<String> = serde_json::from_str(command).expect("exec form");
    let help = help();
    for argument in &arguments {
        let name = argument.split('=').next().expect("a name");
        assert!(help.contains(name), "{name} is no flag of binnacle");
    }
    let port = text.lines().find_map(|line| line.strip_prefix("EXPOSE ")).expect("a port");
    assert!(arguments.iter().any(|argument| argument.ends_with(&format!(":{port}"))));
}

/// Rule files below `deploy/rules`, or their tests.
fn rule_files(directory: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(root().join(directory)).expect("readable");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{directory}");
    files
}

#[test]
fn rules_pass_their_tests() {
    let files = rule_files("deploy/rules/tests");
    let output =
        Command::new(env!("CARGO_BIN_EXE_binnacle")).args(["test", "rules"]).args(files).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn every_alert_says_what_happened_how_bad_it_is_and_what_to_do() {
    let mut names = BTreeSet::new();
    for file in rule_files("deploy/rules") {
        let text = fs::read_to_string(&file).expect("readable");
        let groups: Value = serde_saphyr::from_str(&text).expect("YAML");
        for rule in groups["groups"]
            .as_array()
            .expect("groups")
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules"))
        {
            let Some(name) = rule["alert"].as_str() else { continue };
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(
                ["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap_or("")),
                "{name}"
            );
            for annotation in ["summary", "runbook"] {
                assert!(
                    rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 10),
                    "{name}: {annotation}"
                );
            }
        }
    }
    assert!(names.len() >= 30, "{}", names.len());
}
