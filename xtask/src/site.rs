//! The documentation site: `site` makes pages of the repository's markdown with VitePress. The build refuses
//! links to pages that are not there; `links.mjs` looks up files and headings, also of what is no page.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// `cargo xtask site`: builds it and prints where it is.
pub(crate) fn build(workspace: &Workspace) -> Result<bool> {
    let note = make(workspace)?;
    println!("{note}; {}", workspace.root.join("site/dist/index.html").display());
    println!("to look at it: npm run preview, in site");
    Ok(true)
}

/// The suite of `cargo xtask test`: the links, then the pages.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    Ok(Outcome::Passed(make(workspace)?))
}

fn make(workspace: &Workspace) -> Result<String> {
    on_path(&["npm"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let folder = workspace.root.join("site");
    install_packages(workspace, &folder)?;
    let links = npm(workspace, "links", &folder)?;
    npm(workspace, "build", &folder)?;
    Ok(links.trim().to_owned())
}

fn npm(workspace: &Workspace, script: &str, folder: &Path) -> Result<String> {
    let mut command = workspace.command("npm");
    command.args(["run", "--silent", script]).current_dir(folder).env("NO_COLOR", "1");
    process::run(workspace, &format!("site-{script}"), &mut command, LIMIT)
}

/// Twenty seconds on two idle cores.
const LIMIT: Duration = Duration::from_secs(300);
