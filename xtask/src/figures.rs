//! The step `figures`: how easy the code is to read, in numbers. Each has a limit that is only ever lowered:
//! a figure that is better than its limit asks for the lower limit, so that nothing that was won is lost
//! again.

use crate::source::{self, Line};
use crate::steps::Outcome;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Counts, and compares with [`LIMITS`].
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut found = Figures::default();
    let crates = workspace.root.join("crates");
    for path in source::files(&crates, &["rs"])? {
        let name = path.strip_prefix(&crates)?.to_string_lossy().replace('\\', "/");
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
        if name.contains("/src/") && !is_test {
            found.add_file(&name, &std::fs::read_to_string(&path)?);
        }
    }
    found.root_names = root_names(&workspace.root.join("crates/hauyna/src/lib.rs"))?;
    let figures = found.named();
    let faults: Vec<String> =
        figures.iter().zip(LIMITS).filter_map(|(figure, limit)| fault(figure, limit)).collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let shown: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
    Ok(Outcome::Passed(shown.join(" · ")))
}

fn fault((name, value): &(&str, usize), limit: usize) -> Option<String> {
    match value.cmp(&limit) {
        std::cmp::Ordering::Greater => Some(format!("{name}: {value}, at most {limit} are allowed")),
        std::cmp::Ordering::Less => {
            Some(format!("{name}: {value}, better than {limit}: lower the limit in xtask/src/figures.rs"))
        }
        std::cmp::Ordering::Equal => None,
    }
}

/// The figures, in the order of [`LIMITS`].
#[derive(Default)]
struct Figures {
    /// Parameters that are tuples, of functions in `crates/`.
    tuple_parameters: usize,
    /// `pub(crate)` and lines of code in `crates/hauyna`.
    crate_visible: usize,
    crate_lines: usize,
    /// Names that `hauyna` exports at its root.
    root_names: usize,
    /// Documented public functions whose sentence is not in the third person.
    other_person: usize,
    /// Comment lines that are longer than [`COLUMNS`].
    long_comments: usize,
    /// Methods of `ConnectionCore`, the type that most of `hauyna` holds.
    core_methods: usize,
}

impl Figures {
    fn named(&self) -> [(&'static str, usize); 6] {
        let per_thousand = (self.crate_visible * 1000).div_ceil(self.crate_lines.max(1));
        [
            ("tuple parameters", self.tuple_parameters),
            ("pub(crate) per 1,000 lines", per_thousand),
            ("names at the root", self.root_names),
            ("functions documented in another than the third person", self.other_person),
            ("comment lines over 110 columns", self.long_comments),
            ("methods of ConnectionCore", self.core_methods),
        ]
    }

    fn add_file(&mut self, name: &str, text: &str) {
        let all = source::lines(text);
        let end = all
            .windows(2)
            .position(|pair| pair[0].code.trim() == "#[cfg(test)]" && pair[1].code.trim_end().ends_with('{'));
        let lines = &all[..end.unwrap_or(all.len())];
        self.tuple_parameters += lines.iter().filter(|line| has_tuple_parameter(&line.code)).count();
        self.other_person += functions_in_another_person(lines);
        let texts = text.lines().zip(lines);
        self.long_comments += texts
            .filter(|(text, line)| {
                line.code.trim().is_empty() && !line.comment.is_empty() && text.chars().count() > COLUMNS
            })
            .count();
        if name.starts_with("hauyna/src/") {
            self.crate_visible +=
                lines.iter().map(|line| line.code.matches("pub(crate)").count()).sum::<usize>();
            self.crate_lines += lines.len();
            self.core_methods += methods_of(lines, "ConnectionCore");
        }
    }
}

/// Counts the functions in the `impl` blocks of a type, apart from those of traits.
fn methods_of(lines: &[Line], name: &str) -> usize {
    let start = format!("impl {name} {{");
    let mut count = 0;
    let mut is_inside = false;
    for line in lines {
        is_inside = line.code.starts_with(&start) || is_inside && !line.code.starts_with('}');
        let function = line.code.strip_prefix("    ").filter(|code| !code.starts_with(' '));
        count += usize::from(is_inside && function.is_some_and(|code| code.contains("fn ")));
    }
    count
}

/// Whether a line declares a parameter `(a, b): (A, B)` of a function. Closures and `let` take values apart.
fn has_tuple_parameter(code: &str) -> bool {
    code.match_indices("): (").any(|(at, end)| {
        // `From<()>` has to be written so.
        if code[at + end.len()..].starts_with(')') {
            return false;
        }
        let Some(open) = code[..at].rfind('(') else { return false };
        let before = code[..open].trim_end();
        !before.ends_with('|') && !before.ends_with("let") && !before.ends_with("let mut")
    })
}

/// Documented public functions whose first word is no verb of the third person ("Returns") and not "Whether".
fn functions_in_another_person(lines: &[Line]) -> usize {
    let mut count = 0;
    let mut sentence: Option<&str> = None;
    for line in lines {
        let code = line.code.trim();
        if let Some(text) = line.comment.trim().strip_prefix("///") {
            sentence.get_or_insert(text.trim());
        } else if is_public_function(code) {
            count += usize::from(sentence.take().is_some_and(|text| !is_third_person(text)));
        } else if !code.starts_with('#') {
            sentence = None;
        }
    }
    count
}

fn is_public_function(code: &str) -> bool {
    let Some(rest) = code.strip_prefix("pub ") else { return false };
    let rest = ["const ", "async "].iter().fold(rest, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    rest.starts_with("fn ")
}

fn is_third_person(sentence: &str) -> bool {
    let word = sentence.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    word == "Whether"
        || word == "Does"
        || word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && word != "This"
}

/// Counts the names in the `pub use` lines of a crate's root.
fn root_names(path: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    // What is indented belongs to a public module of the root.
    let code: String = source::lines(&text)
        .iter()
        .filter(|line| !line.code.starts_with("    pub "))
        .map(|line| format!("{} ", line.code))
        .collect();
    let uses = code.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    Ok(uses
        .map(|names| names.split(',').filter(|name| !name.trim().trim_matches('}').trim().is_empty()).count())
        .sum())
}

const COLUMNS: usize = 110;
/// At most so much of each figure.
const LIMITS: [usize; 6] = [0, 30, 35, 0, 6, 49];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_found_among_parameters_alone() {
        assert!(has_tuple_parameter("fn f(&self, (a, b): (u8, u8)) {"));
        assert!(has_tuple_parameter("    (a, b): (u8, u8),"));
        assert!(!has_tuple_parameter("let (a, b): (u8, u8) = c;"));
        assert!(!has_tuple_parameter("let f = |(a, b): (u8, u8)| a;"));
        assert!(!has_tuple_parameter("fn f(a: u8) -> (u8, u8) {"));
    }

    #[test]
    fn methods_are_counted_in_blocks_of_the_type_alone() {
        let text = "impl Core {\n    fn a(&self) {\n        fn inner() {}\n    }\n    pub(crate) async fn b() {}\n}\nimpl Debug for Core {\n    fn c() {}\n}\nfn d() {}\nimpl Core {\n    fn e() {}\n}";
        assert_eq!(methods_of(&source::lines(text), "Core"), 3);
    }

    #[test]
    fn sentences_are_judged_by_their_first_word() {
        let text = "/// Returns it.\npub fn a() {}\n/// The name.\n#[must_use]\npub fn b() {}\n/// Whether it is.\npub const fn c() {}\n/// Of it.\nfn d() {}";
        assert_eq!(functions_in_another_person(&source::lines(text)), 1);
        assert!(!is_third_person("This is it."));
        assert!(!is_third_person("As it is."));
    }
}
