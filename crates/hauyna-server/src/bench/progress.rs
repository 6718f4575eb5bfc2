//! The progress bar on a terminal's stderr. Where stderr is no terminal, nothing is drawn.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// The bar of a run.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        let is_shown = !json && std::io::stderr().is_terminal();
        let target =
            if is_shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{prefix:<11} {bar:30.cyan/dim} {percent:>3} %  {msg}")
            .expect("invariant: the template is valid")
            .progress_chars("━━─");
        Self { bar: ProgressBar::with_draw_target(Some(1), target).with_style(style) }
    }

    /// Starts the next part of the run.
    pub(super) fn part(&self, what: &'static str, length: u64) {
        // Reset the position first, so that it is never drawn with the length of the next part.
        self.bar.set_position(0);
        self.bar.set_length(length.max(1));
        self.bar.set_message("");
        self.bar.set_prefix(what);
    }

    pub(super) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub(super) fn say(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Removes the bar before anything is printed.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
