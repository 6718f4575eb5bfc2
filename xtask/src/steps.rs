//! Lists of named steps. Runs them one after the other, prints a line with the time of each, and all failures
//! at the end. `check` and `test` are such lists.

use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::io::Write;
use std::time::Instant;

/// A named step. An error means that it failed.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<Outcome>,
}

/// How a step ended without a failure.
pub(crate) enum Outcome {
    /// It passed; the note is printed after it.
    Passed(String),
    /// It could not run here, with the reason.
    Skipped(String),
}

impl Outcome {
    /// Returns `Passed` without a note.
    pub(crate) fn passed() -> Outcome {
        Outcome::Passed(String::new())
    }
}

/// Number of passed and failed steps.
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Runs the selected steps.
///
/// # Errors
///
/// Returns an error if `--only` names a step that does not exist.
pub(crate) fn run_all(workspace: &Workspace, steps: &[Step]) -> Result<Tally> {
    let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
    if let Some(unknown) = workspace.only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("there is no step {unknown}; the steps are: {}", names.join(" "));
    }
    let mut failures = Vec::new();
    let mut passed = 0;
    for step in
        steps.iter().filter(|step| workspace.only.is_empty() || workspace.only.iter().any(|n| n == step.name))
    {
        print!("{:<18}", step.name);
        std::io::stdout().flush()?;
        let start = Instant::now();
        let outcome = (step.run)(workspace);
        let time = start.elapsed().as_secs_f64();
        match outcome {
            Ok(Outcome::Passed(note)) => {
                println!("ok      {time:>7.1} s  {note}");
                passed += 1;
            }
            Ok(Outcome::Skipped(why)) => println!("skipped {time:>7.1} s  {why}"),
            Err(problem) => {
                println!("FAILED  {time:>7.1} s");
                failures.push((step.name, problem));
            }
        }
    }
    for (name, problem) in &failures {
        println!("\n── {name} ──\n{problem:#}");
    }
    Ok(Tally { passed, failed: failures.len() })
}
