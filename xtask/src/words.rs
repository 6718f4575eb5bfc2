//! The step `words`: words of the project's former dialect that must not come back, with what to write
//! instead. They are looked for in names, comments and documents.

use crate::source;
use crate::steps::Outcome;
use crate::workspace::Workspace;
use anyhow::{Result, bail};

/// Looks for every word of [`REMOVED`].
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut faults = Vec::new();
    let files = source::files(&workspace.root, &["rs", "md", "ts", "tsx", "mjs", "vue", "svelte", "html"])?;
    for path in &files {
        let name = path.strip_prefix(&workspace.root)?.to_string_lossy().replace('\\', "/");
        // What a change replaced is named by its old name, and this file lists the words.
        if ["CHANGELOG.md", "CONTRIBUTING.md"].contains(&&*name)
            || name.ends_with("words.rs")
            || name.contains("/assets/")
        {
            continue;
        }
        for (number, line) in std::fs::read_to_string(path)?.lines().enumerate() {
            faults.extend(
                removed_in(line)
                    .map(|(word, instead)| format!("{name}:{}: {word:?}: write {instead}", number + 1)),
            );
        }
    }
    if faults.is_empty() {
        return Ok(Outcome::Passed(format!("{} words, {} files", REMOVED.len(), files.len())));
    }
    bail!("{}", faults.join("\n"))
}

/// The removed words in a line. A word stands alone: a name such as `rest_bytes` is another word than `rest`.
fn removed_in(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    REMOVED.into_iter().filter(|(word, _)| {
        line.match_indices(word).any(|(at, _)| {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
        })
    })
}

/// Words that were removed, and what replaces them.
const REMOVED: [(&str, &str); 33] = [
    ("Agenda", "Timers"),
    ("ghosts", "lost_count"),
    ("KnownTo", "ShownTo"),
    ("take_leave", "close_if_draining"),
    ("is_parting", "is_replaced"),
    ("look_ahead", "scan"),
    ("not_asked_yet", "task_not_run_yet"),
    ("see_off", "wait_until_empty"),
    ("run_dry", "run_drain"),
    ("let_go", "release_all"),
    ("begin_anew", "restart_numbering"),
    ("take_turns", "yield_to_thread"),
    ("ask_to_do", "with_broker_uncertain"),
    ("enlist", "add_to_lists"),
    ("Requesting", "ClientRequest"),
    ("Publishing::", "PublishBuilder::"),
    ("Subscribing::", "SubscribeBuilder::"),
    ("LocalOptions", "LocalBrokerOptions"),
    ("Occasion", "Operation"),
    ("Wish", "SubscribeRequest"),
    ("Nudge", "WakeUp"),
    ("heed", "handle_signal"),
    ("MOST", "MAX_…"),
    ("LONGEST", "MAX_…"),
    ("PATIENCE", "…_TIMEOUT"),
    ("patiently", "with_timeout"),
    ("for good", "permanently, or say what happens"),
    ("For good", "permanently, or say what happens"),
    ("be it", "whether it is"),
    ("comes about", "happens"),
    ("shall", "must, or the present tense"),
    ("whoever", "the client that, everybody who"),
    ("anew", "again"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_word_is_found_where_it_stands_alone() {
        assert_eq!(removed_in("fn heed() {").collect::<Vec<_>>(), [("heed", "handle_signal")]);
        assert_eq!(removed_in("they heeded it; MOST_BYTES").count(), 0);
        assert_eq!(removed_in("MOST of it, for good.").count(), 2);
    }
}
