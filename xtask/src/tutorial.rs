//! The program of `docs/tutorial.md`, as its reader has it at the end: built from the text of the tutorial in
//! a package of its own, so that the browser suite can follow what the tutorial says that one sees.

use crate::process;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Builds the program and returns the folder in which it is started, with the page and the client. The
/// program takes the address to listen on as its argument instead of the one in the tutorial.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let text = fs::read_to_string(workspace.root.join("docs/tutorial.md"))?;
    let dependencies = blocks(&text, "toml").join("");
    let path = format!("path = {:?}", workspace.root.join("crates/hauyna"));
    let manifest =
        MANIFEST.to_owned() + &replaced(&dependencies, r#"git = "https://github.com/hauyna/hauyna""#, &path)?;
    let program = blocks(&text, "rust,no_run").pop().context("the tutorial has no program")?;
    let program = replaced(
        &program,
        r#".serve("127.0.0.1:8080")"#,
        ".serve(std::env::args().nth(1).expect(\"an address\"))",
    )?;
    let page = blocks(&text, "html").into_iter().rfind(|block| block.starts_with("<!doctype"));

    let folder = workspace.scratch.join("tutorial");
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/main.rs"), program)?;
    fs::write(folder.join("index.html"), page.context("the tutorial has no page")?)?;
    fs::copy(workspace.root.join("crates/hauyna-server/assets/hauyna.js"), folder.join("hauyna.js"))?;
    fs::copy(workspace.root.join("Cargo.lock"), folder.join("Cargo.lock"))?; // the same versions: nothing is built twice
    let mut cargo = workspace.cargo(&["build"]);
    cargo.current_dir(&folder).env("CARGO_TARGET_DIR", &workspace.target);
    process::run(workspace, "tutorial", &mut cargo, Duration::from_secs(20 * 60))?;
    Ok(folder)
}

/// The code blocks of one kind.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let opening = format!("```{kind}");
    let mut found = Vec::new();
    let mut lines = text.lines();
    while lines.by_ref().any(|line| line == opening) {
        found
            .push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
    }
    found
}

/// The text with one phrase replaced, which is in it.
fn replaced(text: &str, phrase: &str, other: &str) -> Result<String> {
    ensure!(text.contains(phrase), "the tutorial does not say {phrase} any more");
    Ok(text.replace(phrase, other))
}

const MANIFEST: &str = r#"[package]
name = "hauyna-tutorial"
version = "0.0.0"
edition = "2024"

[workspace]

"#;

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn blocks_of_one_kind_are_found_in_their_order() {
        let text = "a\n```toml\none\n```\n```rust\nfn\n```\n```toml\ntwo\n2\n```\n";
        assert_eq!(blocks(text, "toml"), ["one\n", "two\n2\n"]);
    }
}
