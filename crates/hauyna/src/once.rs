//! Parts of a builder that can be set only once. A second call would silently replace the first, so it panics
//! where it is made. The builders of handlers, channels, routers and verifiers call this.

/// Sets a part. `fault` is the text of the panic, which names the methods that set it.
///
/// # Panics
///
/// If it was set before.
#[track_caller]
pub(crate) fn set_once<T>(part: &mut Option<T>, value: T, fault: &str) {
    assert!(part.is_none(), "{fault}");
    *part = Some(value);
}

/// Sets a part like [`set_once`], for a part that only one method sets.
///
/// # Panics
///
/// If it was called before.
#[track_caller]
pub(crate) fn call_once<T>(part: &mut Option<T>, value: T, method: &str) {
    assert!(part.is_none(), "`{method}` is called twice, but can be set only once");
    *part = Some(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_is_given_once() {
        let mut part = None;
        call_once(&mut part, 1, "part");
        assert_eq!(part, Some(1));
        let twice = std::panic::catch_unwind(move || call_once(&mut part, 2, "part")).unwrap_err();
        let text = twice.downcast_ref::<String>().unwrap();
        assert_eq!(text, "`part` is called twice, but can be set only once");
    }
}
