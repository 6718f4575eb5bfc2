//! Random numbers for delays, masks and keys. With a seed they are repeatable, for simulations; otherwise
//! they come from the system.

/// Random numbers (SplitMix64), which need not resist an attacker, and masks, which should.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
    masks: MaskSource,
}

/// The party that chooses what is masked must not be able to guess the mask (RFC 6455 §5.3). A simulation
/// needs no protection.
#[derive(Debug)]
enum MaskSource {
    Seeded,
    System { pool: Box<[u8; 256]>, used: usize },
}

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        match seed {
            Some(state) => Self { state, masks: MaskSource::Seeded },
            None => {
                let state = getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15);
                Self { state, masks: MaskSource::System { pool: Box::new([0; 256]), used: 256 } }
            }
        }
    }

    pub(crate) const fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in [0, 1).
    pub(crate) const fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn mask(&mut self) -> [u8; 4] {
        if let MaskSource::System { pool, used } = &mut self.masks {
            if *used == pool.len() && getrandom::fill(&mut **pool).is_ok() {
                *used = 0;
            }
            if let Some(&mask) = pool[*used..].first_chunk() {
                *used += mask.len();
                return mask;
            }
        }
        let [a, b, c, d, ..] = self.number().to_be_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_masks() {
        let draw = |seed| {
            let mut random = Random::new(Some(seed));
            (random.number(), random.mask())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn without_a_seed_masks_differ_beyond_the_pool() {
        let mut random = Random::new(None);
        let masks: std::collections::HashSet<_> = (0..130).map(|_| random.mask()).collect();
        assert!(masks.len() > 120);
    }

    #[test]
    fn fractions_are_spread_between_zero_and_one() {
        let mut random = Random::new(Some(7));
        let fractions: Vec<f64> = (0..1_000).map(|_| random.fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let mean = fractions.iter().sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
