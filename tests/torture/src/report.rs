//! One table of figures with a column for each language, and the first examples of violations. `run` prints
//! it.

use crate::checker::{Figures, Verdict};
use hauyna_test::Faults;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The results of a run.
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) faults: Faults,
    /// Processor time in seconds, by language.
    pub(crate) cpu: BTreeMap<String, f64>,
    pub(crate) scale: Scale,
}

/// Parameters and cost of the run.
pub(crate) struct Scale {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) took: Duration,
    /// Processor time of both servers, in seconds.
    pub(crate) server_cpu: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { verdict, faults, cpu, scale } = self;
        let together = verdict.together();
        let mut columns: Vec<(&str, &Figures)> =
            verdict.languages.iter().map(|(language, figures)| (language.as_str(), figures)).collect();
        columns.push(("together", &together));
        writeln!(f, "{}", heading(&columns))?;
        let mut line = |name: &str, cell: &dyn Fn(&Figures) -> String| {
            write!(f, "{name:<34}")?;
            columns.iter().try_for_each(|(_, figures)| write!(f, "{:>14}", cell(figures)))?;
            writeln!(f)
        };
        line("clients", &|figures| figures.clients.to_string())?;
        line("published", &|figures| figures.sent.to_string())?;
        line("acknowledged", &|figures| figures.acked.to_string())?;
        line("delivered", &|figures| figures.got.to_string())?;
        line("silent losses (0)", &|figures| figures.losses.to_string())?;
        line("duplicates (0)", &|figures| figures.duplicates.to_string())?;
        line("reorderings (0)", &|figures| figures.reorderings.to_string())?;
        line("presence flaps (0)", &|figures| figures.flaps.to_string())?;
        line("publications without outcome (0)", &|figures| figures.unanswered.to_string())?;
        for error in together.failed.keys() {
            let name = format!("failed: {error}");
            line(&name, &|figures| figures.failed.get(error).copied().unwrap_or_default().to_string())?;
        }
        line("failed outside of the restart", &|figures| figures.failed_elsewhere.to_string())?;
        for reason in together.gaps.keys() {
            let name = format!("gaps: {reason}");
            line(&name, &|figures| figures.gaps.get(reason).copied().unwrap_or_default().to_string())?;
        }
        line("gaps outside of the restart", &|figures| figures.gaps_elsewhere.to_string())?;
        line("gave up", &|figures| figures.closed.to_string())?;
        line("reconnects", &|figures| figures.reconnects.to_string())?;
        line("resumed", &|figures| share(figures.resumed, figures.reconnects))?;
        for (name, part) in [("recovery p50, ms", 50), ("recovery p99, ms", 99), ("recovery max, ms", 100)] {
            line(name, &|figures| percentile(&figures.recoveries, part))?;
        }
        let languages: Vec<String> =
            cpu.iter().map(|(language, seconds)| format!("{language} {seconds:.1}")).collect();
        writeln!(
            f,
            "\nseed {} · {} s of publishing, {:.0} s in all · {} connections, {} cuts, {} disturbed, {} refused",
            scale.seed,
            scale.seconds,
            scale.took.as_secs_f64(),
            faults.links,
            faults.cuts,
            faults.disturbed,
            faults.refused,
        )?;
        writeln!(f, "CPU, s: server {:.1}, {}", scale.server_cpu, languages.join(", "))?;
        verdict.examples.iter().try_for_each(|example| writeln!(f, "! {example}"))
    }
}

fn heading(columns: &[(&str, &Figures)]) -> String {
    let names = columns.iter().map(|(name, _)| format!("{name:>14}"));
    format!("{:<34}{}", "", names.collect::<String>())
}

fn share(part: u64, whole: u64) -> String {
    (part * 100).checked_div(whole).map_or_else(|| "–".to_owned(), |share| format!("{share} %"))
}

/// Returns a percentile of sorted values.
fn percentile(values: &[u64], part: usize) -> String {
    let index = (values.len() * part).div_ceil(100).max(1) - 1;
    values.get(index).map_or_else(|| "–".to_owned(), u64::to_string)
}

#[cfg(test)]
mod tests {
    use super::{percentile, share};

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 99, 100].map(|part| percentile(&values, part)), ["100", "198", "200"]);
        assert_eq!((percentile(&[], 50), percentile(&[7], 99)), ("–".to_owned(), "7".to_owned()));
        assert_eq!((share(1, 3), share(0, 0)), ("33 %".to_owned(), "–".to_owned()));
    }
}
