//! `docs/config.schema.json` says about the configuration exactly what the code that reads it does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::path::Path;

use daemon::config::Config;
use serde_json::{Map, Value, json};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read(config: &Value) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    Config::read(&path).map_err(|error| error.to_string())
}

fn smallest() -> Value {
    schema()["examples"][0].clone()
}

/// What the schema says about one key, with what its `$ref` says.
fn resolve(schema: &Value, rule: &Value) -> Map<String, Value> {
    let mut whole = Map::new();
    if let Some(reference) = rule["$ref"].as_str() {
        let target = schema.pointer(reference.trim_start_matches('#')).unwrap();
        whole.extend(target.as_object().unwrap().clone());
    }
    whole.extend(rule.as_object().unwrap().clone());
    whole
}

/// Every key of the schema that holds a value (not a section), as a JSON pointer, with its rule.
fn keys(schema: &Value) -> Vec<(String, Map<String, Value>)> {
    let mut keys = Vec::new();
    collect(schema, schema, "", &mut keys);
    keys
}

fn collect(
    schema: &Value,
    section: &Value,
    path: &str,
    keys: &mut Vec<(String, Map<String, Value>)>,
) {
    for (name, rule) in section["properties"].as_object().unwrap() {
        let path = format!("{path}/{name}");
        match rule["properties"].is_object() {
            true => collect(schema, rule, &path, keys),
            false => keys.push((path, resolve(schema, rule))),
        }
    }
}

/// The smallest configuration with one key set.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = smallest();
    let mut place = &mut config;
    for name in pointer.trim_start_matches('/').split('/') {
        place = &mut place[name];
    }
    *place = value;
    config
}

#[test]
fn the_examples_are_read() {
    for example in schema()["examples"].as_array().unwrap() {
        read(example).unwrap_or_else(|error| panic!("{example}: {error}"));
    }
}

#[test]
fn the_keys_are_those_the_code_reads() {
    let schema = schema();
    let written = serde_json::to_value(read(&smallest()).unwrap()).unwrap();
    compare(&schema, &written, "");
}

fn compare(rule: &Value, section: &Value, path: &str) {
    let names = |value: &Value| -> Vec<String> {
        let keys = value.as_object().unwrap().keys();
        // Written only if there is one.
        keys.filter(|key| *key != "$schema").cloned().collect()
    };
    assert_eq!(names(&rule["properties"]), names(section), "{path}");
    assert_eq!(rule["additionalProperties"], json!(false), "{path}");
    for (name, inner) in section.as_object().unwrap() {
        if inner.is_object() {
            compare(&rule["properties"][name], inner, &format!("{path}/{name}"));
        }
    }
}

#[test]
fn the_defaults_are_those_the_code_uses() {
    let written = serde_json::to_value(read(&smallest()).unwrap()).unwrap();
    for (pointer, rule) in keys(&schema()) {
        if pointer == "/domains" {
            // Given in the example.
            continue;
        }
        if let Some(default) = rule.get("default") {
            assert_eq!(written.pointer(&pointer), Some(default), "{pointer}");
        }
    }
}

#[test]
fn required_are_exactly_the_keys_without_a_default() {
    let schema = schema();
    for pointer in ["", "/tls"] {
        let rules = match pointer {
            "" => &schema,
            _ => &schema["properties"]["tls"],
        };
        for key in rules["required"].as_array().unwrap() {
            let mut config = smallest();
            let section = config.pointer_mut(pointer).unwrap();
            section
                .as_object_mut()
                .unwrap()
                .remove(key.as_str().unwrap());
            let error = read(&config).expect_err(key.as_str().unwrap());
            assert!(error.contains(key.as_str().unwrap()), "{error}");
        }
    }
}

#[test]
fn numbers_end_where_the_schema_says() {
    for (pointer, rule) in keys(&schema()) {
        let (Some(least), Some(most)) = (rule.get("minimum"), rule.get("maximum")) else {
            continue;
        };
        for value in [least, most] {
            read(&with(&pointer, value.clone())).unwrap_or_else(|error| panic!("{error}"));
        }
        let (below, above) = (
            i128::from(least.as_u64().unwrap()) - 1,
            i128::from(most.as_u64().unwrap()) + 1,
        );
        for value in [below, above] {
            // serde_json has no numbers of more than 64 bits; as text they can be written all the same.
            let config = with(&pointer, json!("PLACE")).to_string();
            let config = config.replace("\"PLACE\"", &value.to_string());
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config.json");
            std::fs::write(&path, config).unwrap();
            assert!(Config::read(&path).is_err(), "{pointer}: {value} was read");
        }
    }
}

#[test]
fn words_and_switches_are_those_the_schema_lists() {
    for (pointer, rule) in keys(&schema()) {
        for word in rule
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            read(&with(&pointer, word.clone())).unwrap_or_else(|error| panic!("{error}"));
        }
        if rule.contains_key("enum") || rule.get("type") == Some(&json!("boolean")) {
            assert!(
                read(&with(&pointer, json!("sometimes"))).is_err(),
                "{pointer}"
            );
        }
    }
}
