//! The folders (workspace, build folder, the folder shared with other projects) and the options of the
//! command line. All tasks get it.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace and the options of this run.
pub(crate) struct Workspace {
    /// Folder of the workspace.
    pub(crate) root: PathBuf,
    /// Build folder of Cargo.
    pub(crate) target: PathBuf,
    /// Folder for logs, tools and reports of the tasks.
    pub(crate) scratch: PathBuf,
    /// Names given by `--only`; an empty list means all.
    pub(crate) only: Vec<String>,
    /// `test`: whether to skip what needs more than Rust. `pressure`: whether to send less. `release`:
    /// whether to skip the compilation of the packages.
    pub(crate) quick: bool,
    /// `release`: whether to upload nothing.
    pub(crate) dry_run: bool,
    /// Whether to print the output of each step.
    pub(crate) verbose: bool,
    /// `bench`: whether to compare with the floor server.
    pub(crate) side_by_side: bool,
    /// `bench`: other servers to compare with.
    pub(crate) peers: Vec<String>,
    /// `bench`: number of measurements of each row.
    pub(crate) rounds: usize,
    /// `bench`: length of one measurement; `torture`: how long the clients publish. In seconds.
    pub(crate) seconds: Option<u64>,
    /// `torture`: number of clients of each language.
    pub(crate) clients: u64,
    /// `torture`: publications per second.
    pub(crate) rate: u64,
    /// `torture`: seed of the faults.
    pub(crate) seed: u64,
}

impl Workspace {
    /// Reads the options and finds the folders.
    pub(crate) fn find(words: impl Iterator<Item = String>) -> Result<Workspace> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
        let mut workspace = Workspace {
            root: root.to_path_buf(),
            scratch: target.join("xtask"),
            target,
            only: Vec::new(),
            quick: false,
            dry_run: false,
            verbose: false,
            side_by_side: false,
            peers: Vec::new(),
            rounds: 3,
            seconds: None,
            clients: 200,
            rate: 500,
            seed: 1,
        };
        workspace.read_options(words)?;
        std::fs::create_dir_all(&workspace.scratch)?;
        Ok(workspace)
    }

    fn read_options(&mut self, mut words: impl Iterator<Item = String>) -> Result<()> {
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            let number = |text: String| text.parse().with_context(|| format!("{word}: not a number"));
            match word.as_str() {
                "--only" => self.only.push(value()?),
                "--peer" => self.peers.push(value()?),
                "--rounds" => self.rounds = value()?.parse().context("--rounds: not a number")?,
                "--seconds" => self.seconds = Some(number(value()?)?),
                "--clients" => self.clients = number(value()?)?,
                "--rate" => self.rate = number(value()?)?,
                "--seed" => self.seed = number(value()?)?,
                "--dry-run" => self.dry_run = true,
                "--quick" => self.quick = true,
                "--verbose" => self.verbose = true,
                "--side-by-side" => self.side_by_side = true,
                _ => bail!("unknown option {word}"),
            }
        }
        Ok(())
    }

    /// Returns a cargo command in the workspace.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let mut command = self.command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.args(words);
        command
    }

    /// Returns a command in the workspace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Returns a file or folder beside the workspace that several projects share (load generator, conformance
    /// suite), if it exists. `HAUYNA_SHARED` sets another folder.
    pub(crate) fn shared(&self, path: &str) -> Option<PathBuf> {
        let shared =
            std::env::var_os("HAUYNA_SHARED").map_or_else(|| self.root.join("../shared"), PathBuf::from);
        std::fs::canonicalize(shared.join(path)).ok()
    }

    /// Returns the program to test and measure: the release build, or the program that `HAUYNA_BIN` names.
    pub(crate) fn program(&self) -> PathBuf {
        other_program().unwrap_or_else(|| self.target.join("release/hauyna"))
    }
}

/// Returns a program that was built elsewhere, to be tested or measured instead.
pub(crate) fn other_program() -> Option<PathBuf> {
    std::env::var_os("HAUYNA_BIN").map(PathBuf::from)
}

/// Returns the first of these programs that is on the `PATH`.
pub(crate) fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names.iter().find_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    })
}
