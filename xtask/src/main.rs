//! `cargo xtask check|test|bench|torture|pressure|site|record-demo`: what people run by hand and `.ci/run`
//! runs, in one place. Prints one line per step and never touches what it did not start.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks to its terminal")]

mod api;
mod bench;
mod browser;
mod check;
mod conformance;
mod contender;
mod contract;
mod deny;
mod environments;
mod figures;
mod fuzz;
mod pressure;
mod process;
mod ratchet;
mod references;
mod release;
mod rows;
mod rules;
mod server;
mod side_by_side;
mod site;
mod source;
mod steps;
mod table;
mod test;
mod tool;
mod torture;
mod tutorial;
mod typescript;
mod words;
mod workspace;

use crate::workspace::Workspace;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let task = words.next().unwrap_or_default();
    let done = Workspace::find(words).and_then(|workspace| match task.as_str() {
        "check" => check::run(&workspace),
        "test" => test::run(&workspace),
        "bench" => bench::run(&workspace),
        "torture" => torture::run(&workspace),
        "pressure" => pressure::run(&workspace),
        "release" => release::run(&workspace),
        "site" => site::build(&workspace),
        "record-demo" => browser::record_demo(&workspace),
        _ => anyhow::bail!("{USAGE}"),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem:#}");
            ExitCode::from(2)
        }
    }
}

const USAGE: &str = "\
usage: cargo xtask check [--only STEP]...             formatting, lints, docs, licences, size budgets
       cargo xtask test  [--only SUITE]... [--quick]  tests; --quick leaves browser, Autobahn and fuzzing out
       cargo xtask bench [--only ROW]... [--seconds N] [--side-by-side [--rounds N] [--peer NAME|PROGRAM]...]
       cargo xtask torture [--seconds N] [--clients N] [--rate N] [--seed N] [--only LANGUAGE]
       cargo xtask pressure [--only SCENARIO]... [--quick]   bursts, floods, slow readers; --quick sends less
       cargo xtask site                               the documentation site, from the markdown of the repository
       cargo xtask release --dry-run [--quick]        versions, changelog, packages, checksums; --quick compiles none of them
       cargo xtask record-demo                        docs/pictures/demo.gif, from the program's page in Chromium
--verbose shows the output of every step; otherwise it goes to target/xtask/STEP.log";
