//! The rules of CONTRIBUTING.md that no lint checks: sizes, headers, depth, allowed names, leftovers; the
//! sizes also in the TypeScript client. Reads the source as text; each violation is one line
//! `file:line: what`. `check` lists it.

use crate::source::{self, Line};
use crate::steps::Outcome;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::path::Path;

/// Checks all Rust files of the project, and the rules about the whole project.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut faults = Vec::new();
    let mut deliver = Vec::new();
    let files = source::files(&workspace.root, &["rs"])?;
    for path in &files {
        let text = std::fs::read_to_string(path)?;
        let lines = source::lines(&text);
        let file = File::new(path.strip_prefix(&workspace.root)?, &text, &lines);
        file.check(&mut faults);
        deliver.extend(file.definitions_of_deliver());
    }
    if deliver.len() != 1 {
        faults.push(format!(
            "the library must have one `fn deliver`, but has {}: {}",
            deliver.len(),
            deliver.join(" ")
        ));
    }
    let scripts = typescript_sizes(workspace, &mut faults)?;
    manifests(workspace, &mut faults)?;
    readme(workspace, &files, &mut faults)?;
    leftovers_elsewhere(workspace, &mut faults)?;
    if faults.is_empty() {
        return Ok(Outcome::Passed(format!("{} Rust files, {scripts} TypeScript files", files.len())));
    }
    bail!("{}", faults.join("\n"))
}

/// Checks that every JSON file is valid.
pub(crate) fn fixtures(workspace: &Workspace) -> Result<Outcome> {
    let files = source::files(&workspace.root, &["json"])?;
    let mut faults = Vec::new();
    for path in &files {
        if let Err(fault) = serde_json::from_slice::<serde_json::Value>(&std::fs::read(path)?) {
            faults.push(format!("{}: {fault}", path.display()));
        }
    }
    if faults.is_empty() {
        return Ok(Outcome::Passed(format!("{} JSON files", files.len())));
    }
    bail!("{}", faults.join("\n"))
}

struct File<'a> {
    path: String,
    text: &'a str,
    lines: &'a [Line],
    is_test: bool,
    /// Number of lines above the tests at the end of the file.
    above_tests: usize,
}

impl<'a> File<'a> {
    fn new(path: &Path, text: &'a str, lines: &'a [Line]) -> File<'a> {
        let path = path.to_string_lossy().replace('\\', "/");
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_test = path.contains("/tests/")
            || path.contains("/benches/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs");
        let inline = lines.windows(2).position(|pair| {
            pair[0].code.trim() == "#[cfg(test)]"
                && pair[1].code.starts_with("mod ")
                && pair[1].code.trim_end().ends_with('{')
        });
        let above_tests = inline.unwrap_or(text.lines().count());
        File { path, text, lines, is_test, above_tests }
    }

    fn check(&self, faults: &mut Vec<String>) {
        self.check_size(faults);
        self.check_header(faults);
        self.check_depth(faults);
        self.check_contents(faults);
        self.check_enums(faults);
        for (at, line) in self.lines.iter().enumerate() {
            for fault in self.line_faults(at, line) {
                faults.push(format!("{}:{}: {fault}", self.path, at + 1));
            }
        }
    }

    fn check_size(&self, faults: &mut Vec<String>) {
        let limit = size_limit(self.is_test);
        if self.above_tests > limit {
            faults.push(format!(
                "{}: {} lines above its tests, {limit} are allowed",
                self.path, self.above_tests
            ));
        }
    }

    fn check_header(&self, faults: &mut Vec<String>) {
        let header = self.text.lines().take_while(|line| line.starts_with("//!")).count();
        let is_root = self.path.ends_with("/lib.rs") || self.path.ends_with("/main.rs");
        if header == 0 {
            faults.push(format!("{}:1: must open with `//!`: what it owns and who calls it", self.path));
        } else if header > HEADER_LINES && !is_root {
            faults.push(format!("{}:1: a header of {header} lines, {HEADER_LINES} are allowed", self.path));
        }
    }

    fn check_depth(&self, faults: &mut Vec<String>) {
        let Some((_, module)) = self.path.split_once("/src/") else { return };
        let depth = module.split('/').filter(|part| *part != "mod.rs").count();
        if depth > MODULE_DEPTH && !self.is_test {
            faults.push(format!("{}: {depth} modules deep, {MODULE_DEPTH} are allowed", self.path));
        }
    }

    /// Checks that `mod.rs` is a table of contents: short, and without logic.
    fn check_contents(&self, faults: &mut Vec<String>) {
        if !self.path.ends_with("/mod.rs") {
            return;
        }
        let lines = self.lines.len();
        if lines > CONTENTS_LINES {
            faults.push(format!("{}: {lines} lines, a table of contents has {CONTENTS_LINES}", self.path));
        }
        let is_logic = |line: &Line| LOGIC.iter().any(|word| has_word(&line.code, word));
        if let Some(at) = self.lines.iter().position(is_logic) {
            faults.push(format!("{}:{}: logic in a table of contents", self.path, at + 1));
        }
    }

    /// Checks that each public enum of a library can grow, or says why it never does.
    fn check_enums(&self, faults: &mut Vec<String>) {
        let is_library = self.path.starts_with("crates/") && !self.path.starts_with(PROGRAM);
        if !is_library || self.is_test {
            return;
        }
        for (at, _) in self.lines.iter().enumerate().filter(|(_, line)| line.code.starts_with("pub enum ")) {
            let above = self.lines[..at].iter().rev();
            let mut about =
                above.take_while(|line| line.code.starts_with('#') || line.comment.starts_with("///"));
            let is_decided =
                |line: &Line| line.code.contains("non_exhaustive") || line.comment.contains("Exhaustive:");
            if !about.any(is_decided) {
                let fault = "a public enum is `#[non_exhaustive]` or says `Exhaustive:` and why";
                faults.push(format!("{}:{}: {fault}", self.path, at + 1));
            }
        }
    }

    fn line_faults(&self, at: usize, line: &Line) -> Vec<&'static str> {
        let code = line.code.as_str();
        let in_library = self.path.starts_with(LIBRARY);
        let in_test = self.is_test || at >= self.above_tests;
        let mut faults = Vec::new();
        let mut forbid = |found: bool, fault| {
            if found {
                faults.push(fault);
            }
        };
        forbid(has_word(code, "unsafe"), "`unsafe` is forbidden in every crate");
        forbid(
            in_test && calls(code, "sleep"),
            "a test must wait for an event or advance the clock instead of sleeping",
        );
        forbid(code.contains("#[ignore"), "a test must not be ignored");
        forbid(LEFT_IN_CODE.iter().any(|word| code.contains(word)), "left open in the code");
        forbid(LEFT_IN_WORDS.iter().any(|word| has_word(&line.comment, word)), "left open in a comment");
        forbid(
            in_library && code.contains("hyper::upgrade") && !self.path.starts_with(TRANSPORT),
            "only `transport/` names hyper's upgrade",
        );
        forbid(
            in_library
                && !in_test
                && names_crate(code, "axum")
                && !AXUM.iter().any(|path| self.path == *path),
            "only `router/axum.rs` and `request/axum.rs` name axum",
        );
        faults
    }

    fn definitions_of_deliver(&self) -> Vec<String> {
        let is_definition =
            |line: &Line| line.code.contains("fn deliver(") || line.code.contains("fn deliver<");
        self.lines[..self.above_tests.min(self.lines.len())]
            .iter()
            .enumerate()
            .filter(|(_, line)| self.path.starts_with(LIBRARY) && !self.is_test && is_definition(line))
            .map(|(at, _)| format!("{}:{}", self.path, at + 1))
            .collect()
    }
}

/// Checks the sizes of the files of the TypeScript client, and returns their number.
fn typescript_sizes(workspace: &Workspace, faults: &mut Vec<String>) -> Result<usize> {
    let mut files = Vec::new();
    for folder in TYPESCRIPT {
        files.extend(source::files(&workspace.root.join(folder), &["ts", "tsx", "mjs", "svelte"])?);
    }
    for path in &files {
        let text = std::fs::read_to_string(path)?;
        faults.extend(typescript_size_fault(path.strip_prefix(&workspace.root)?, &text));
    }
    Ok(files.len())
}

/// Returns the violation if a TypeScript file has too many lines. Its tests are in files of their own.
fn typescript_size_fault(path: &Path, text: &str) -> Option<String> {
    let path = path.to_string_lossy().replace('\\', "/");
    let (lines, limit) = (text.lines().count(), size_limit(path.contains("/tests/")));
    (lines > limit).then(|| format!("{path}: {lines} lines, {limit} are allowed"))
}

fn size_limit(is_test: bool) -> usize {
    if is_test { TEST_LINES } else { FILE_LINES }
}

/// Checks that each member of the workspace uses the workspace's lints.
fn manifests(workspace: &Workspace, faults: &mut Vec<String>) -> Result<()> {
    for path in source::files(&workspace.root, &["toml"])? {
        let text = std::fs::read_to_string(&path)?;
        let is_member = path.ends_with("Cargo.toml") && !text.contains("[workspace]");
        if is_member && !text.contains("[lints]\nworkspace = true") {
            faults.push(format!("{}: must use the workspace's lints", path.display()));
        }
    }
    Ok(())
}

/// Checks that a doc test compiles the README's program.
fn readme(workspace: &Workspace, files: &[std::path::PathBuf], faults: &mut Vec<String>) -> Result<()> {
    let readme = std::fs::read_to_string(workspace.root.join("README.md")).unwrap_or_default();
    let mut included = false;
    for path in files.iter().filter(|path| path.ends_with("src/lib.rs")) {
        included |= std::fs::read_to_string(path)?.contains("README.md\")");
    }
    if readme.contains("```rust") && !included {
        faults.push("README.md: no doc test compiles its Rust code".into());
    }
    Ok(())
}

/// Checks that nothing is left open in pages, scripts and tests outside of Rust.
fn leftovers_elsewhere(workspace: &Workspace, faults: &mut Vec<String>) -> Result<()> {
    for path in source::files(&workspace.root, &["js", "mjs", "ts", "css", "html", "sh", "toml"])? {
        let text = std::fs::read_to_string(&path)?;
        for (at, line) in text.lines().enumerate() {
            if LEFT_IN_WORDS.iter().any(|word| has_word(line, word)) {
                faults.push(format!("{}:{}: left open", path.display(), at + 1));
            }
        }
    }
    Ok(())
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word)
    })
}

fn calls(code: &str, function: &str) -> bool {
    has_word(code, function) && code.contains(&format!("{function}("))
}

/// Whether a path begins with this crate; `super::axum::` is a module of the library.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = &code[..at];
        let is_module = before.strip_suffix("::").is_some_and(|path| path.ends_with(char::is_alphanumeric));
        !is_module && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

const FILE_LINES: usize = 400;
const TEST_LINES: usize = 600;
const HEADER_LINES: usize = 8;
const MODULE_DEPTH: usize = 2;
const CONTENTS_LINES: usize = 60;
/// The words that begin what a table of contents does not hold.
const LOGIC: [&str; 8] = ["fn", "impl", "struct", "enum", "trait", "const", "static", "type"];
const LIBRARY: &str = "crates/hauyna/src/";
/// A program, whose items nobody else names.
const PROGRAM: &str = "crates/hauyna-server/";
const TYPESCRIPT: [&str; 2] = ["clients/typescript/src", "clients/typescript/tests"];
const TRANSPORT: &str = "crates/hauyna/src/transport/";
const AXUM: [&str; 3] = [
    "crates/hauyna/src/router/axum.rs",
    "crates/hauyna/src/request/axum.rs",
    // It names the module of the same name.
    "crates/hauyna/src/request/mod.rs",
];
// Each word is split, so that a search for it does not find this file.
const LEFT_IN_CODE: [&str; 3] = [concat!("to", "do!("), concat!("un", "implemented!("), concat!("db", "g!(")];
const LEFT_IN_WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_in(path: &str, text: &str) -> Vec<String> {
        let lines = source::lines(text);
        let mut faults = Vec::new();
        File::new(Path::new(path), text, &lines).check(&mut faults);
        faults
    }

    #[test]
    fn each_rule_finds_what_it_forbids() {
        let library = "crates/hauyna/src/hub/handle.rs";
        let faulty = [
            (library, "fn f() {}".to_owned()),
            (library, "//! a\n".repeat(9)),
            (library, format!("//! a\n{}", "\n".repeat(400))),
            ("crates/hauyna/src/a/b/c.rs", "//! a".to_owned()),
            ("crates/hauyna/src/a/mod.rs", format!("//! a\n{}", "mod b;\n".repeat(60))),
            ("crates/hauyna/src/a/mod.rs", "//! a\nfn f() {}".to_owned()),
            ("crates/hauyna-server/src/a/mod.rs", "//! a\nconst LEN: usize = 1;".to_owned()),
            ("crates/hauyna-client/tests/it/a/mod.rs", "//! a\nstruct Server;".to_owned()),
            (library, "//! a\nunsafe {}".to_owned()),
            (library, "//! a\n\n/// One of two.\n#[derive(Debug)]\npub enum Side {".to_owned()),
            (library, "//! a\nuse axum::Router;".to_owned()),
            (library, "//! a\nuse hyper::upgrade::on;".to_owned()),
            (library, "//! a\n#[cfg(test)]\nmod tests {\ntokio::time::sleep(second);".to_owned()),
            ("crates/hauyna/tests/it/main.rs", "//! a\n#[ignore = \"slow\"]".to_owned()),
            (library, format!("//! a\n{}later)", LEFT_IN_CODE[0])),
            (library, format!("//! a\n// {} later", LEFT_IN_WORDS[0])),
        ];
        for (path, text) in faulty {
            assert_eq!(faults_in(path, &text).len(), 1, "{text}");
        }
    }

    #[test]
    fn typescript_files_have_the_limits_of_rust_files() {
        let fault = |path: &str, lines: usize| typescript_size_fault(Path::new(path), &"\n".repeat(lines));
        let (file, test) = ("clients/typescript/src/client.ts", "clients/typescript/tests/client.test.ts");
        assert_eq!([fault(file, 400), fault(test, 600)], [None, None]);
        assert_eq!(fault(file, 401), Some(format!("{file}: 401 lines, 400 are allowed")));
        assert_eq!(fault(test, 601), Some(format!("{test}: 601 lines, 600 are allowed")));
    }

    #[test]
    fn words_and_strings_that_look_alike_are_no_faults() {
        let decided = "//! a\n\n#[non_exhaustive]\npub enum A {}\n/// Exhaustive: two.\n#[derive(Debug)]\npub enum B {}";
        assert_eq!(faults_in("crates/hauyna/src/hub/handle.rs", decided), [""; 0]);
        let text = "//! A sleep( and axum:: in words.\nsuper::axum::peer();\nlet unsafe_code = \"unsafe\"; sleep(second); r#\"#[ignore\"#;";
        assert_eq!(faults_in("crates/hauyna/src/hub/handle.rs", text), [""; 0]);
    }
}
