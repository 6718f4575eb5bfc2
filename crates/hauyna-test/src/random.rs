//! Random numbers from a seed (splitmix64), so that a test run can be repeated.

/// A generator. The same seed yields the same numbers.
///
/// ```
/// use hauyna_test::Random;
///
/// let (mut one, mut other) = (Random(7), Random(7));
/// assert_eq!(one.next(), other.next());
/// assert!(one.below(6) < 6);
/// ```
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no option")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Returns the next number, from 0 up to but not including `bound`.
    ///
    /// # Panics
    ///
    /// Panics if `bound` is 0.
    #[track_caller]
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
