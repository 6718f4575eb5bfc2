//! Randomness from the operating system, for identifiers and epochs.

/// A random number.
///
/// # Panics
///
/// Where the operating system has no randomness to give, as the standard library's maps do.
pub(crate) fn u64() -> u64 {
    getrandom::u64().expect("invariant: the operating system gives random bytes")
}
