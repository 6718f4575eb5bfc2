//! A list of named steps, run one after the other, each with a line and its time; the failures are told in full
//! at the end. `check` and `test` are such lists.

use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::io::Write;
use std::time::Instant;

/// One thing to do. An error is its failure.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<Outcome>,
}

/// How a step ended that did not fail.
pub(crate) enum Outcome {
    /// It passed; the note is shown behind it.
    Passed(String),
    /// It could not be done here, and why.
    Skipped(String),
}

impl Outcome {
    /// Passed, with nothing to add.
    pub(crate) fn passed() -> Outcome {
        Outcome::Passed(String::new())
    }
}

/// How many steps ended how.
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Runs the steps that were asked for.
///
/// # Errors
///
/// `--only` names a step that does not exist.
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
