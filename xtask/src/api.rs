//! Compares the public API of the crates with that of the last released version, with cargo-semver-checks: a
//! breaking change needs a new version number. `check` lists it.

use crate::process;
use crate::steps::Outcome;
use crate::tool;
use crate::workspace::Workspace;
use anyhow::Result;
use std::time::Duration;

/// Compares with the last tag of a release. Without one there is nothing to compare with.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let Some(released) = last_release(workspace) else {
        return Ok(Outcome::Passed("no released version to compare with".into()));
    };
    let packages: Vec<&str> =
        LIBRARIES.into_iter().filter(|name| is_in_release(workspace, &released, name)).collect();
    let tool = tool::find_or_install(workspace, "cargo-semver-checks", VERSION)?;
    let mut command = workspace.command(&tool.to_string_lossy());
    command.args(["semver-checks", "--all-features", "--baseline-rev", &released]);
    for name in &packages {
        command.args(["--package", name]);
    }
    process::run(workspace, "api", &mut command, LIMIT)?;
    Ok(Outcome::Passed(format!("{} crates compared with {released}", packages.len())))
}

/// Returns the newest tag `v…` in the history of the present commit.
fn last_release(workspace: &Workspace) -> Option<String> {
    let mut command = workspace.command("git");
    command.args(["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]).current_dir(&workspace.root);
    let output = command.output().ok()?;
    let tag = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !tag.is_empty()).then_some(tag)
}

fn is_in_release(workspace: &Workspace, released: &str, name: &str) -> bool {
    let mut command = workspace.command("git");
    let manifest = format!("{released}:crates/{name}/Cargo.toml");
    command.args(["cat-file", "-e", &manifest]).current_dir(&workspace.root);
    command.output().is_ok_and(|output| output.status.success())
}

/// The crates that others depend on.
const LIBRARIES: [&str; 6] =
    ["hauyna-websocket", "hauyna-protocol", "hauyna-broker", "hauyna", "hauyna-client", "hauyna-test"];
const VERSION: &str = "0.51.0";
/// The documentation of all crates twice, on two slow cores.
const LIMIT: Duration = Duration::from_secs(20 * 60);
