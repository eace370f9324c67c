//! Numbers that look random and follow from a seed: the same seed gives the same decision.
//!
//! Owns the draws that exploration needs. Must not know where seeds come from: an activity draws one, and its result is
//! what a replay reads.

/// SplitMix64: small, fast, and good enough to split traffic.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Above 0 and below 1.
    pub(crate) fn share(&mut self) -> f64 {
        share_of(self.next())
    }

    /// Box and Muller's way to a standard normal number.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Marsaglia and Tsang's way to a gamma number; `shape` is at least 1.
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape.max(1.0) - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.share().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// A beta number; both shapes are at least 1.
    pub(crate) fn beta(&mut self, alpha: f64, beta: f64) -> f64 {
        let (left, right) = (self.gamma(alpha), self.gamma(beta));
        left / (left + right)
    }
}

/// The number's bits, well mixed.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number as a share, above 0 and below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds, and no more are taken")]
pub(crate) fn share_of(number: u64) -> f64 {
    ((number >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        // Sebastiano Vigna's splitmix64.c with seed 1234567.
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn beta_numbers_have_the_mean_and_the_spread_of_their_distribution() {
        for (alpha, beta) in [(1.0, 1.0), (2.0, 5.0), (91.0, 11.0), (1.5, 80.0)] {
            let mut random = Random::new(7);
            let drawn: Vec<f64> = (0..50_000).map(|_| random.beta(alpha, beta)).collect();
            let mean = drawn.iter().sum::<f64>() / 50_000.0;
            let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 50_000.0;
            let sum = alpha + beta;
            let (true_mean, true_variance) = (alpha / sum, alpha * beta / (sum * sum * (sum + 1.0)));
            // Five standard errors of the mean.
            assert!((mean - true_mean).abs() < 5.0 * (true_variance / 50_000.0).sqrt(), "{alpha} {beta}: {mean}");
            assert!((variance / true_variance - 1.0).abs() < 0.05, "{alpha} {beta}: {variance}");
        }
    }
}
