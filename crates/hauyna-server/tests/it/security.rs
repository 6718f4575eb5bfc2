//! The tests that `SECURITY.md` names exist, and it names all tests of threats.

use crate::common::files_below;
use std::collections::BTreeSet;

const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn every_test_named_in_the_security_page_exists_and_every_threat_test_is_named_there() {
    let page = std::fs::read_to_string(format!("{CRATES}/../SECURITY.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let last_columns = rows.filter_map(|line| line.trim_end_matches([' ', '|']).rsplit_once(" | "));
    let named: BTreeSet<&str> = last_columns
        .flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .filter(|name| name.contains('_'))
        .collect();
    assert!(named.len() > 90, "{} names", named.len());
    let mut defined = BTreeSet::new();
    for path in files_below(CRATES, &["rs"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let tests = tests_of(&text);
        if path.contains("/threats_") && path.contains("hauyna-server/tests/it/") {
            for test in &tests {
                assert!(named.contains(test.as_str()), "{test} is missing in SECURITY.md");
            }
        }
        defined.extend(tests);
    }
    for name in named {
        assert!(defined.contains(name), "there is no test {name}");
    }
}

/// Returns the names of the functions below `#[test]` and similar attributes.
pub(crate) fn tests_of(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let below = lines.windows(2).filter(|two| two[0] == "#[test]" || two[0].starts_with("#[tokio::test"));
    below
        .filter_map(|two| {
            two[1]
                .trim_start_matches("async ")
                .strip_prefix("fn ")?
                .split_once('(')
                .map(|(name, _)| name.to_owned())
        })
        .collect()
}

#[test]
fn no_crate_has_unsafe_code() {
    let root = std::fs::read_to_string(format!("{CRATES}/../Cargo.toml")).unwrap();
    assert!(root.contains("unsafe_code = \"forbid\""));
    for path in files_below(CRATES, &["toml"]).iter().filter(|path| path.ends_with("/Cargo.toml")) {
        let manifest = std::fs::read_to_string(path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{path}");
    }
}
