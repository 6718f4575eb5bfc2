//! Runs Autobahn|Testsuite, the WebSocket conformance suite, against the release program's echo endpoint. Its
//! installer lies beside the workspace; without it the suites are skipped. `test` lists them.

use crate::process;
use crate::server::Server;
use crate::steps::Outcome;
use crate::test::release_build;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::time::Duration;

/// Runs the cases for framing, pings, fragments, UTF-8 and the close handshake.
pub(crate) fn core(workspace: &Workspace) -> Result<Outcome> {
    run(
        workspace,
        &Sections { name: "autobahn", cases: "1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*", count: 247, options: &[] },
    )
}

/// Runs the cases for compression at several sizes.
pub(crate) fn deflate(workspace: &Workspace) -> Result<Outcome> {
    run(
        workspace,
        &Sections { name: "autobahn-deflate", cases: "12.1.*,13.1.*", count: 36, options: &["--deflate"] },
    )
}

struct Sections {
    name: &'static str,
    cases: &'static str,
    count: usize,
    options: &'static [&'static str],
}

fn run(workspace: &Workspace, sections: &Sections) -> Result<Outcome> {
    let Some(suite) = workspace.shared("autobahn/run.sh") else {
        return Ok(Outcome::Skipped("no autobahn/run.sh beside the workspace".into()));
    };
    release_build(workspace)?;
    let options = [&["--echo", "/echo", "--log", "error"], sections.options].concat();
    let server = Server::start(workspace, &options)?;
    let mut command = workspace.command("bash");
    // With STRICT, a NON-STRICT case or a wrong close code is a failure, too.
    command.arg(suite).arg(format!("ws://{}/echo", server.address)).arg(sections.cases).env("STRICT", "1");
    let output = process::run(workspace, sections.name, &mut command, Duration::from_secs(900))?;
    server.stop()?;
    // If the server dies midway, there are fewer results instead of failed ones.
    if !output.contains(&format!(": {} cases", sections.count)) {
        bail!("not all {} cases ran\n{output}", sections.count);
    }
    let tally = output.lines().rfind(|line| line.contains(" passed, ")).unwrap_or_default();
    Ok(Outcome::Passed(tally.to_owned()))
}
