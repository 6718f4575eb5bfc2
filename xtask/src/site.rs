//! The documentation site: `site` makes pages of the repository's markdown with VitePress. The build refuses links to
//! pages that are not there; `links.mjs` looks up files and headings, also of what is no page.

use crate::browser::install_packages;
use crate::house::{House, on_path};
use crate::process;
use crate::steps::Outcome;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// `cargo xtask site`: builds it and prints where it is.
pub(crate) fn build(house: &House) -> Result<bool> {
    let note = make(house)?;
    println!("{note}; {}", house.root.join("site/dist/index.html").display());
    println!("to look at it: npm run preview, in site");
    Ok(true)
}

/// The suite of `cargo xtask test`: the links, then the pages.
pub(crate) fn run(house: &House) -> Result<Outcome> {
    Ok(Outcome::Passed(make(house)?))
}

fn make(house: &House) -> Result<String> {
    on_path(&["npm"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let folder = house.root.join("site");
    install_packages(house, &folder)?;
    let links = npm(house, "links", &folder)?;
    npm(house, "build", &folder)?;
    Ok(links.trim().to_owned())
}

fn npm(house: &House, script: &str, folder: &Path) -> Result<String> {
    let mut command = house.command("npm");
    command.args(["run", "--silent", script]).current_dir(folder).env("NO_COLOR", "1");
    process::run(house, &format!("site-{script}"), &mut command, LIMIT)
}

/// Twenty seconds on two idle cores.
const LIMIT: Duration = Duration::from_secs(300);
