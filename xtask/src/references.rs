//! The step `references`: what the documents and the headers of files name exists. A path to a Rust file is
//! looked up among the files, and a module with an item among the definitions, so that a rename cannot leave
//! a text behind.

use crate::source;
use crate::steps::Outcome;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::path::Path;

/// Looks up every reference of the documents and of the files' headers.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut known = Known::default();
    let rust = source::files(&workspace.root, &["rs"])?;
    for path in &rust {
        let relative = path.strip_prefix(&workspace.root)?.to_string_lossy().replace('\\', "/");
        known.add(&relative, &std::fs::read_to_string(path)?);
    }
    let mut faults = Vec::new();
    let mut count = 0;
    let mut look = |path: &Path, text: &str| -> Result<()> {
        let name = path.strip_prefix(&workspace.root)?.display().to_string();
        for (number, line) in text.lines().enumerate() {
            for reference in code_spans(line) {
                count += usize::from(is_reference(reference));
                if let Some(fault) = known.fault(reference) {
                    faults.push(format!("{name}:{}: {fault}", number + 1));
                }
            }
        }
        Ok(())
    };
    for path in &rust {
        let text = std::fs::read_to_string(path)?;
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        look(path, &header.join("\n"))?;
    }
    for path in source::files(&workspace.root, &["md"])? {
        // What a change replaced is named by its old name.
        if !path.ends_with("CHANGELOG.md") {
            look(&path, &without_code_blocks(&std::fs::read_to_string(&path)?))?;
        }
    }
    if faults.is_empty() {
        return Ok(Outcome::Passed(format!("{count} references")));
    }
    bail!("{}", faults.join("\n"))
}

/// The Rust files of the project, and the names that each of them uses.
#[derive(Default)]
struct Known {
    files: Vec<(String, HashSet<String>)>,
}

impl Known {
    fn add(&mut self, path: &str, text: &str) {
        let mut names: HashSet<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        for line in source::lines(text) {
            names.extend(words(&line.code).map(str::to_owned));
        }
        self.files.push((path.to_owned(), names));
    }

    /// What is wrong with a reference; `None` where it is found, or is none. A path is found where one file
    /// has all of its names, in its own path or in its code.
    fn fault(&self, reference: &str) -> Option<String> {
        if !is_reference(reference) {
            return None;
        }
        if let Some((path, _)) = reference.split_once(".rs") {
            let end = format!("/{path}.rs");
            let is_found = self.files.iter().any(|(file, _)| format!("/{file}").ends_with(&end));
            return (!is_found).then(|| format!("there is no file {path}.rs"));
        }
        let names: Vec<&str> = words(reference).collect();
        let is_found = self.files.iter().any(|(_, known)| names.iter().all(|name| known.contains(*name)));
        (!is_found && !FOREIGN.contains(&reference)).then(|| format!("nothing is named `{reference}`"))
    }
}

/// Whether a text between backticks names a Rust file or a Rust path.
fn is_reference(text: &str) -> bool {
    let is_path = |c: char| c.is_alphanumeric() || "_/.-".contains(c);
    if let Some((path, rest)) = text.split_once(".rs") {
        return !path.is_empty()
            && path.chars().all(is_path)
            && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '/');
    }
    text.contains("::") && text.chars().all(|c| c.is_alphanumeric() || "_:()!".contains(c))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// What stands between backticks in one line.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The text with empty lines in place of code blocks: what these name, the compiler looks up.
fn without_code_blocks(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence { "" } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Names of other projects.
const FOREIGN: [&str; 1] = ["HTTP::Server"];

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let mut known = Known::default();
        known.add("crates/hauyna/src/hub/drain.rs", "pub fn begin() {} // over\n");
        known
    }

    #[test]
    fn files_and_names_are_looked_up() {
        let known = known();
        assert_eq!(known.fault("hub/drain.rs"), None);
        assert_eq!(known.fault("drain::begin"), None);
        assert_eq!(known.fault("hub/ending.rs"), Some("there is no file hub/ending.rs".to_owned()));
        assert_eq!(known.fault("drain::over"), Some("nothing is named `drain::over`".to_owned()));
    }

    #[test]
    fn what_is_no_reference_is_left_alone() {
        let known = known();
        for text in ["cargo run", "over", "a == b::c && d", ".rs", "docs.rs/x"] {
            assert_eq!(known.fault(text), None, "{text}");
        }
    }

    #[test]
    fn code_blocks_are_left_out_and_lines_keep_their_numbers() {
        assert_eq!(without_code_blocks("a\n```rust\nb\n```\nc"), "a\n\n\n\nc");
        assert_eq!(code_spans("a `b` c `d`").collect::<Vec<_>>(), ["b", "d"]);
    }
}
