//! The story's pseudo-random numbers. Takes a seed; returns numbers, choices and texts.
//! Guarantees the same sequence for the same seed on every machine.

/// A generator of pseudo-random numbers: SplitMix64, as published by Steele, Lea and Flood (2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn up_to(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.up_to(u64::try_from(limit).unwrap_or(1))).unwrap_or(0)
    }

    pub(super) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(super) fn text(&mut self, chars: usize) -> String {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..chars).map(|_| char::from(self.pick(LETTERS))).collect()
    }
}
