//! Everything that the program writes to stdout and stderr. `queued` holds what is best effort:
//! announcements, log lines and error messages. `print` writes the result of a command (`types`, `bench`,
//! `--help`).

mod print;
mod queued;
mod stream;

pub(crate) use print::{print, print_on_thread};
pub(crate) use queued::{Log, announce, finish, print_error, redirect_panics};
