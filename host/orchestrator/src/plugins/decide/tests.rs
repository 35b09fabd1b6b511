use caisson_core::ids::Realm;
use caisson_core::plugin::{ActionSpec, Engine, Grants};
use serde_json::json;

use super::*;
use PluginStatus::{Active, Compiling, Disabled, Failed, Pending, Superseded};

/// `asks` in the short form, separated by spaces.
fn row(digest: &str, status: PluginStatus, by: Option<&str>, asks: &str) -> PluginRow {
    let asks: Vec<&str> = asks.split_whitespace().collect();
    PluginRow {
        realm: Realm::new("t", "e"),
        package: Package {
            id: "p".into(),
            version: format!("v{digest}"),
            digest: digest.repeat(64 / digest.len()),
            size: 1,
            wit: "1.0.0".into(),
            description: String::new(),
            engine: Engine::Component,
            actions: vec![ActionSpec {
                name: "a".into(),
                description: String::new(),
                config_schema: Some(json!({"type": "object", "properties": {"n": {"type": "integer"}}})),
                input_schema: None,
                output_schema: None,
            }],
            asks: Grants::parse(&json!(asks)).expect("grants"),
            limits: std::collections::BTreeMap::new(),
            imports: Vec::new(),
        },
        status,
        grants: Grants::default(),
        config: Json::parse("{}").expect("JSON"),
        source: "upload".into(),
        error: None,
        installed_by: "a".into(),
        installed_at: Timestamp(i64::from(digest.as_bytes()[0])),
        decided_by: by.map(Into::into),
        decided_at: by.map(|_| Timestamp(i64::from(digest.as_bytes()[0]))),
    }
}

#[test]
fn a_new_version_serves_nobody_without_a_yes_unless_it_is_the_first() {
    let (files, person) = (Some(FILES_ACTOR), Some("ann"));
    for (what, others, yes, expected) in [
        ("the first", vec![], None, Active),
        ("beside one that failed", vec![(Failed, None)], None, Active),
        ("beside one that waits, and none was ever in force", vec![(Pending, None)], None, Active),
        ("beside one in force", vec![(Active, None)], None, Pending),
        ("beside one that is off", vec![(Disabled, person)], None, Pending),
        ("when one was in force and is gone", vec![(Superseded, None)], None, Pending),
        ("with a yes", vec![(Active, None)], person, Active),
        ("with a yes, beside one that is off", vec![(Disabled, person)], person, Active),
        ("with the folder's yes", vec![(Active, person)], files, Active),
        ("with the folder's yes, beside one whose file was gone", vec![(Disabled, files)], files, Active),
        ("with the folder's yes, against a person's no", vec![(Disabled, person)], files, Pending),
    ] {
        let others: Vec<_> = others.into_iter().map(|(status, by)| row("a", status, by, "")).collect();
        assert_eq!(landed(&others, &row("b", Compiling, yes, "")), expected, "{what}");
    }
}

#[test]
fn the_same_version_again_changes_what_the_request_says_and_what_a_folder_decided() {
    let (files, person) = (Some(FILES_ACTOR), Some("ann"));
    for (what, status, by, in_force_by, consent, actor, expected) in [
        ("waits, and nobody says yes", Pending, None, None, Consent::Wait, "ann", false),
        ("waits, and somebody says yes", Pending, None, None, Consent::Given, "ann", true),
        ("waits, and the folder says yes now", Pending, None, None, Consent::Standing, FILES_ACTOR, true),
        ("is in force", Active, None, None, Consent::Given, "ann", false),
        ("its file is back", Disabled, files, None, Consent::Wait, FILES_ACTOR, true),
        ("its file is back, but somebody uploads it", Disabled, files, None, Consent::Wait, "ann", false),
        ("a person switched it off", Disabled, person, None, Consent::Standing, FILES_ACTOR, false),
        ("a person switched it off and on by an upload", Disabled, person, None, Consent::Given, "ann", true),
        ("an edit is taken back", Superseded, None, files, Consent::Standing, FILES_ACTOR, true),
        ("a person rolled back from it", Superseded, files, person, Consent::Standing, FILES_ACTOR, false),
        ("it is being compiled", Compiling, None, None, Consent::Given, "ann", false),
    ] {
        let mut rows = vec![row("b", status, by, "")];
        if in_force_by.is_some() {
            rows.push(row("a", Active, in_force_by, ""));
        }
        assert_eq!(again(&rows, 0, consent, actor), expected, "{what}");
    }
}

#[test]
fn grants_go_on_to_a_version_that_asks_for_nothing_more() {
    for (what, former, next, own, expected) in [
        ("the same", "kv http", "kv http", "", "kv"),
        ("less", "kv http", "kv", "", "kv"),
        ("more", "kv", "kv http", "", ""),
        ("its own", "kv http", "kv http", "http", "http"),
    ] {
        let mut rows = vec![row("b", Pending, None, next), row("a", Active, None, former)];
        rows[1].grants.add("kv").expect("a grant");
        rows[1].config = Json::parse(r#"{"n":1}"#).expect("JSON");
        rows[0].grants = Grants::parse(&json!(own.split_whitespace().collect::<Vec<_>>())).expect("grants");
        put_in_force(&mut rows, 0, &"ann".into(), Timestamp(9));
        assert_eq!((rows[0].status, rows[1].status), (Active, Superseded), "{what}");
        let names: Vec<_> = rows[0].grants.capabilities().iter().map(|c| c.as_str()).collect();
        assert_eq!(names.join(" "), expected, "{what}");
        assert_eq!(rows[0].config.get(), r#"{"n":1}"#, "{what}");
    }
}

#[test]
fn a_version_is_named_by_its_label_or_by_its_digest() {
    let rows = [row("b", Active, None, ""), row("a", Superseded, None, ""), row("c", Failed, None, "")];
    let mut twice = rows.to_vec();
    twice[2].package.version = "va".into();
    for (rows, version, expected) in [
        (rows.as_slice(), "va", Ok(1)),
        (rows.as_slice(), "bbbbbbbb", Ok(0)),
        (rows.as_slice(), &*"c".repeat(64), Ok(2)),
        (rows.as_slice(), "bbb", Err("PLUGIN_VERSION_UNKNOWN")),
        (rows.as_slice(), "9", Err("PLUGIN_VERSION_UNKNOWN")),
        (&twice, "va", Err("PLUGIN_VERSION_AMBIGUOUS")),
        (&twice, "aaaaaaaaa", Ok(1)),
    ] {
        assert_eq!(pick(rows, version).map_err(|error| error.code), expected, "{version}");
    }
    let error = pick(&rows, "9").expect_err("is unknown");
    assert!(error.message.contains("vb, va, vc"), "{error}");
}

#[test]
fn enable_means_the_only_one_that_can_be_meant() {
    for (what, statuses, expected) in [
        ("off", vec![Disabled, Superseded], Ok(0)),
        ("on already", vec![Active], Ok(0)),
        ("on, and another waits", vec![Pending, Active], Err("PLUGIN_VERSION_NEEDED")),
        ("off, and another waits", vec![Pending, Disabled], Ok(1)),
        ("one waits", vec![Superseded, Pending], Ok(1)),
        ("two wait", vec![Pending, Pending], Err("PLUGIN_VERSION_NEEDED")),
        ("being compiled", vec![Compiling], Ok(0)),
        ("none", vec![Superseded], Err("PLUGIN_VERSION_NEEDED")),
    ] {
        let rows: Vec<_> = statuses.into_iter().zip(["c", "b"]).map(|(status, d)| row(d, status, None, "")).collect();
        assert_eq!(to_enable(&rows).map_err(|error| error.code), expected, "{what}");
    }
}

#[test]
fn a_rollback_leads_to_what_was_in_force_last() {
    let rows = [
        row("d", Active, None, ""),
        row("c", Pending, None, ""),
        row("b", Superseded, None, ""),
        row("a", Superseded, None, ""),
    ];
    let mut decided = rows.to_vec();
    decided[3].decided_at = Some(Timestamp(1000));
    for (rows, version, expected) in [
        (rows.as_slice(), None, Ok(2)),
        (&decided, None, Ok(3)),
        (&rows, Some("va"), Ok(3)),
        (&rows, Some("vc"), Err("PLUGIN_NOT_SUPERSEDED")),
        (&rows, Some("x"), Err("PLUGIN_VERSION_UNKNOWN")),
        (&rows[..2], None, Err("PLUGIN_NOT_SUPERSEDED")),
    ] {
        assert_eq!(to_roll_back(rows, version).map_err(|error| error.code), expected, "{version:?}");
    }
}

#[test]
fn a_configuration_fits_every_action_or_is_refused() {
    let package = row("a", Active, None, "").package;
    for (config, part) in
        [("{}", ""), (r#"{"n":1}"#, ""), (r#"{"n":"x"}"#, "p.a"), ("[]", "object"), ("null", "object")]
    {
        let found = check_config(&package, &Json::parse(config).expect("JSON"));
        match found {
            Ok(()) => assert!(part.is_empty(), "{config}"),
            Err(error) => {
                assert_eq!(error.code, "PLUGIN_CONFIG_INVALID");
                assert!(!part.is_empty() && error.message.contains(part), "{config}: {error}");
            }
        }
    }
}

#[test]
fn only_the_oldest_that_nobody_needs_are_dropped() {
    let rows = [
        row("d", Active, None, ""),
        row("c", Pending, None, ""),
        row("b", Superseded, None, ""),
        row("a", Failed, None, ""),
    ];
    for (kept, dropped) in [(4, ""), (3, "a"), (2, "ab"), (0, "ab")] {
        let found: String = superfluous(&rows, kept).iter().map(|digest| &digest[..1]).collect();
        assert_eq!(found, dropped, "{kept}");
    }
}
