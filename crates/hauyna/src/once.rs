//! Parts of a builder that may be given once. A second call would silently take the place of the first, so it panics
//! where it is made. Called by the builders of handlers, channels, routers and verifiers.

/// Gives a part. `fault` says who has given it already.
///
/// # Panics
///
/// Where it was given before.
#[track_caller]
pub(crate) fn set_once<T>(part: &mut Option<T>, value: T, fault: &str) {
    assert!(part.is_none(), "{fault}");
    *part = Some(value);
}

/// As [`set_once`], for a part that one method alone gives.
///
/// # Panics
///
/// Where it was called before.
#[track_caller]
pub(crate) fn call_once<T>(part: &mut Option<T>, value: T, method: &str) {
    assert!(part.is_none(), "`{method}` is called twice: the second call would take the place of the first");
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
        assert_eq!(text, "`part` is called twice: the second call would take the place of the first");
    }
}
