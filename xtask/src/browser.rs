//! The suite in a real browser: runs `tests/browser`, with playwright-core and Debian's Chromium, against the
//! release program and the examples. `test` lists it.

use crate::process;
use crate::steps::Outcome;
use crate::test::release_build;
use crate::workspace::{Workspace, on_path};
use crate::{tutorial, typescript};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs the suite: two users chat, one is cut off and misses nothing, and the pages of the examples work.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let node =
        on_path(&["node"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let chromium = find_or_install_chromium(workspace)?;
    let folder = workspace.root.join("tests/browser");
    install_packages(workspace, &folder)?;
    prepare_bindings(workspace, &folder)?;
    release_build(workspace)?;
    let mut examples = workspace.cargo(&["build", "--package", "hauyna-example-*"]);
    process::run(workspace, "browser-examples", &mut examples, Duration::from_secs(20 * 60))?;
    let tutorial = tutorial::build(workspace)?;
    let mut command = workspace.command(&node.to_string_lossy());
    command
        .args(["--test", "--test-reporter=spec", "--test-concurrency=3"])
        .current_dir(&folder)
        .env("CHROMIUM", chromium)
        .env("HAUYNA_BIN", workspace.program())
        .env("HAUYNA_EXAMPLES", workspace.target.join("debug"))
        .env("HAUYNA_TUTORIAL", tutorial);
    let output = process::run(workspace, "browser", &mut command, Duration::from_secs(600))?;
    let passed = output.lines().find_map(|line| line.split_once("pass ")).map_or("", |(_, count)| count);
    Ok(Outcome::Passed(format!("{passed} tests, screenshots in test-results")))
}

/// Prepares the pages for the tests of the bindings: builds the client, installs the packages of each
/// example, and checks its types, which Vite does not check.
fn prepare_bindings(workspace: &Workspace, folder: &Path) -> Result<()> {
    typescript::build(workspace)?;
    for example in ["react", "vue", "svelte"] {
        let example = workspace.root.join("examples").join(example);
        install_packages(workspace, &example)?;
        typescript::npm(workspace, "types", &example)?;
    }
    install_packages(workspace, &folder.join("react-18"))
}

/// `cargo xtask record-demo`: records the program's first page while a socket is cut, for the README.
pub(crate) fn record_demo(workspace: &Workspace) -> Result<bool> {
    let node =
        on_path(&["node"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    on_path(&["ffmpeg"]).context("needs ffmpeg: apt-get install ffmpeg")?;
    let chromium = find_or_install_chromium(workspace)?;
    let folder = workspace.root.join("tests/browser");
    install_packages(workspace, &folder)?;
    release_build(workspace)?;
    let mut command = workspace.command(&node.to_string_lossy());
    command
        .arg("record-demo.mjs")
        .current_dir(&folder)
        .env("CHROMIUM", chromium)
        .env("HAUYNA_BIN", workspace.program());
    let output = process::run(workspace, "record-demo", &mut command, Duration::from_secs(300))?;
    print!("{output}");
    Ok(true)
}

fn find_or_install_chromium(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM").map(PathBuf::from).or_else(|| on_path(&CHROMIUM)) {
        return Ok(path);
    }
    let is_root = std::fs::metadata("/proc/self")?.uid() == 0;
    if !is_root || on_path(&["apt-get"]).is_none() {
        bail!(
            "needs Chromium: apt-get install chromium, or its path in CHROMIUM, or --quick without this suite"
        );
    }
    for words in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium"]] {
        let mut apt = workspace.command("apt-get");
        apt.arg("--quiet").args(words).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(workspace, "browser-apt", &mut apt, Duration::from_secs(600))?;
    }
    on_path(&CHROMIUM).context("apt-get did not install Chromium")
}

/// Runs `npm ci` unless the packages are already installed.
pub(crate) fn install_packages(workspace: &Workspace, folder: &Path) -> Result<()> {
    let modified = |file: &str| std::fs::metadata(folder.join(file)).and_then(|data| data.modified()).ok();
    if modified("node_modules/.package-lock.json") >= modified("package-lock.json") {
        return Ok(());
    }
    let mut npm = workspace.command("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
    process::run(workspace, "browser-npm", &mut npm, Duration::from_secs(300))?;
    Ok(())
}

const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
