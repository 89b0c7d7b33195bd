//! Settings: which source wins, and what is refused.

use super::*;
use std::path::Path;

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn env(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const SOUND: &str = r#"
node_id = 2
cluster_id = "7f1b6c1e-5d3a-4d0e-9c55-0d8a3f9b7a11"
initial_nodes = [
  { node_id = 2, peer = "127.0.0.1:7502", client = "127.0.0.1:7402" },
  { node_id = 3, peer = "127.0.0.1:7503", client = "127.0.0.1:7403", rack = "b" },
]

[limits]
connections = 10
deadline = "7s"
"#;

#[test]
fn later_sources_win() {
    let file = written(SOUND);
    let read = |environment: &[(&str, &str)], overrides: &Overrides| {
        load(Some(file.path()), env(environment), overrides).unwrap()
    };
    let config = read(&[], &Overrides::default());
    assert_eq!(config.check(), Ok(()));
    assert_eq!((config.node_id, config.limits.connections), (NodeId(2), 10));
    assert_eq!(config.limits.deadline, Duration::from_secs(7));
    assert_eq!(config.limits.streams_per_connection, 256, "the default");

    let variables = [("FLOTILLA_LIMITS__CONNECTIONS", "20"), ("FLOTILLA_NODE_ID", "3")];
    let config = read(&variables, &Overrides::default());
    assert_eq!((config.node_id, config.limits.connections), (NodeId(3), 20));

    let overrides = Overrides {
        set: vec![("limits.connections".to_owned(), "30".to_owned())],
        data_dir: Some(PathBuf::from("/elsewhere")),
    };
    let config = read(&variables, &overrides);
    assert_eq!((config.node_id, config.limits.connections), (NodeId(3), 30));
    assert_eq!(config.data_dir, Path::new("/elsewhere"));
}

#[test]
fn unknown_keys_are_refused_wherever_they_come_from() {
    for wrong in
        ["colour = 1", "[limits]\nconections = 5", "[nothing]\nx = 1", "initial_nodes = [{ id = 1 }]"]
    {
        let file = written(wrong);
        assert!(load(Some(file.path()), env(&[]), &Overrides::default()).is_err(), "{wrong}");
    }
    let error = load(None, env(&[("FLOTILLA_LIMITS__CONECTIONS", "5")]), &Overrides::default()).unwrap_err();
    assert!(error.to_string().contains("FLOTILLA_LIMITS__CONECTIONS"), "{error}");
    let overrides =
        Overrides { set: vec![("limits.conections".to_owned(), "5".to_owned())], ..Overrides::default() };
    assert!(load(None, env(&[]), &overrides).is_err());
    // The command line tool's own variables may be set in the same shell.
    assert!(load(None, env(&[("FLOTILLA_ENDPOINTS", "x"), ("PATH", "y")]), &Overrides::default()).is_ok());
}

#[test]
fn values_of_the_wrong_kind_and_missing_files_are_refused() {
    for wrong in
        ["node_id = \"one\"", "[limits]\ndeadline = \"7 parsecs\"", "cluster_id = \"x\"", "node_id ="]
    {
        let file = written(wrong);
        assert!(load(Some(file.path()), env(&[]), &Overrides::default()).is_err(), "{wrong}");
    }
    assert!(load(Some(Path::new("/no/such/file.toml")), env(&[]), &Overrides::default()).is_err());
}

#[test]
fn settings_that_cannot_work_are_named() {
    let file = written(SOUND);
    let refused = |key: &str, value: &str| {
        let overrides = Overrides { set: vec![(key.to_owned(), value.to_owned())], ..Overrides::default() };
        let config = load(Some(file.path()), env(&[]), &overrides).unwrap();
        config.check().unwrap_err().key
    };
    for (key, value) in [
        ("node_id", "0"),
        ("cluster_id", "00000000-0000-0000-0000-000000000000"),
        ("listen.client", "nowhere"),
        ("limits.connections", "0"),
        ("limits.deadline", "0ms"),
        ("limits.message_bytes", "1KiB"),
        ("peer.reconnect_min", "1h"),
        ("log.level", "flotilla=loud"),
        ("broker.pool_threads", "0"),
    ] {
        assert_eq!(refused(key, value), key);
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let file = written(SOUND);
    let config = load(Some(file.path()), env(&[]), &Overrides::default()).unwrap();
    let printed = written(&config.to_toml());
    let again = load(Some(printed.path()), env(&[]), &Overrides::default()).unwrap();
    assert_eq!(again.to_toml(), config.to_toml());
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/config/node.toml");
    let text = std::fs::read_to_string(shipped).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let config = load(Some(Path::new(shipped)), env(&[]), &Overrides::default()).unwrap();
    assert_eq!(config.check(), Ok(()));
    for key in keys() {
        let shown = key.split('.').try_fold(toml::Value::Table(table.clone()), |at, part| {
            at.as_table().and_then(|table| table.get(part)).cloned()
        });
        assert!(shown.is_some(), "{key} is not in deploy/config/node.toml");
    }
    let defaults = Config {
        node_id: config.node_id,
        cluster_id: config.cluster_id,
        initial_nodes: config.initial_nodes.clone(),
        ..Config::default()
    };
    assert_eq!(config.to_toml(), defaults.to_toml(), "what the file shows are the defaults");
}
