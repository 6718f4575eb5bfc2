//! The servers that are compared: their sources lie beside the workspace. Builds them, and starts one at a
//! time on the first core. `side_by_side` uses it.

use crate::process::{self, Guard};
use crate::rows::{Row, Traffic};
use crate::server::{Server, pinned};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A server to compare.
pub(crate) enum Contender {
    /// The physical limit: C programs that only send.
    Floor { each: PathBuf, joined: PathBuf },
    /// The program of this workspace.
    Hauyna,
    /// Another build of the program.
    Build { name: String, program: PathBuf },
    /// Another server: its name, program, argument before the port, and protocol.
    Peer { name: String, program: PathBuf, script: Option<PathBuf>, protocol: &'static str },
}

/// A running server. Dropping it ends the process.
pub(crate) struct Running {
    /// Process, held for its `Drop`.
    _process: Held,
    pub(crate) port: u16,
    pub(crate) id: u32,
}

enum Held {
    Program(#[expect(dead_code, reason = "held for its Drop")] Server),
    Other(#[expect(dead_code, reason = "held for its Drop")] Guard),
}

impl Contender {
    /// Compiles the floor. Installs Debian's liburing if it is missing and that is possible.
    pub(crate) fn floor(workspace: &Workspace, source: &Path) -> Result<Contender> {
        Ok(Contender::Floor {
            each: compile(workspace, source, "floor")?,
            joined: compile(workspace, source, "floorb")?,
        })
    }

    /// Builds the peer with this name. The path of a program means another build of the program.
    pub(crate) fn peer(workspace: &Workspace, source: &Path, name: &str) -> Result<Contender> {
        if let Ok(program) = std::fs::canonicalize(name)
            && program.is_file()
        {
            return Ok(Contender::Build { name: "other build".to_owned(), program });
        }
        let (binary, protocol) = match name {
            "bun" => return bun(workspace, source),
            "axum" => ("axum_chat", "raw"),
            "tokio-websockets" => ("tokiows", "raw"),
            "fastwebsockets" => ("fastws", "raw"),
            "socketioxide" => ("sio", "socketio"),
            _ => bail!(
                "unknown peer {name}: use bun, axum, tokio-websockets, fastwebsockets, socketioxide, or the path of a program"
            ),
        };
        let target = workspace.scratch.join("peers");
        let mut build =
            workspace.cargo(&["build", "--release", "--locked", "--bin", binary, "--manifest-path"]);
        build.arg(source.join("peers/Cargo.toml")).env("CARGO_TARGET_DIR", &target);
        process::run(workspace, "peers", &mut build, BUILD)?;
        let program = target.join("release").join(binary);
        Ok(Contender::Peer { name: name.to_owned(), program, script: None, protocol })
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Contender::Floor { .. } => "floor",
            Contender::Hauyna => "hauyna",
            Contender::Build { name, .. } | Contender::Peer { name, .. } => name,
        }
    }

    /// Returns the protocol for the load generator in this row.
    pub(crate) fn protocol(&self, row: &Row) -> &'static str {
        match self {
            Contender::Floor { .. } => "raw",
            Contender::Hauyna | Contender::Build { .. } if row.traffic == Traffic::Echo => "raw",
            Contender::Hauyna | Contender::Build { .. } => "hauyna",
            Contender::Peer { protocol, .. } => protocol,
        }
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn start(&self, workspace: &Workspace, row: &Row) -> Result<Running> {
        let (program, script) = match self {
            Contender::Hauyna => return start_program(workspace, &workspace.program()),
            Contender::Build { program, .. } => return start_program(workspace, program),
            Contender::Floor { joined, .. } if row.joined => (joined, None),
            Contender::Floor { each, .. } => (each, None),
            Contender::Peer { program, script, .. } => (program, script.as_ref()),
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = pinned(workspace, &program.to_string_lossy());
        command.args(script).arg(port.to_string());
        if matches!(self, Contender::Floor { .. }) {
            command.arg("send");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = Guard(command.spawn().with_context(|| format!("cannot start {}", self.name()))?);
        await_port(port)?;
        let id = guard.0.id();
        Ok(Running { _process: Held::Other(guard), port, id })
    }
}

fn start_program(workspace: &Workspace, program: &Path) -> Result<Running> {
    let server = Server::start_pinned(workspace, program, &["--echo", "/echo", "--log", "error"])?;
    let (port, id) = (server.address.port(), server.id());
    Ok(Running { _process: Held::Program(server), port, id })
}

fn bun(workspace: &Workspace, source: &Path) -> Result<Contender> {
    let folder = workspace.scratch.join("bun");
    let program = folder.join("node_modules/.bin/bun");
    if !program.is_file() {
        std::fs::create_dir_all(&folder)?;
        let mut npm = workspace.command("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "bun@1.4.5"]).current_dir(&folder);
        process::run(workspace, "bun", &mut npm, BUILD)?;
    }
    let script = Some(source.join("peers/bun.js"));
    Ok(Contender::Peer { name: "bun".to_owned(), program, script, protocol: "raw" })
}

fn compile(workspace: &Workspace, source: &Path, name: &str) -> Result<PathBuf> {
    let program = workspace.scratch.join(name);
    let gcc = || {
        let mut gcc = workspace.command("gcc");
        gcc.args(["-O3", "-march=native", "-w", "-o"]).arg(&program);
        gcc.arg(source.join(format!("{name}.c"))).arg("-luring");
        process::run(workspace, name, &mut gcc, BUILD)
    };
    if gcc().is_err() {
        let mut apt = workspace.command("apt-get");
        apt.args(["--quiet", "install", "--yes", "liburing-dev"]).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(workspace, "liburing", &mut apt, BUILD)
            .context("the floor needs gcc and liburing-dev")?;
        gcc()?;
    }
    Ok(program)
}

fn await_port(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

const BUILD: Duration = Duration::from_secs(900);
