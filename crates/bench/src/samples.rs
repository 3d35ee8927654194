//! Durations that were measured, and what is said about them.

use std::time::Duration;

/// Measured durations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    /// In microseconds.
    sorted: Vec<u32>,
}

impl Samples {
    /// Takes what was measured; longer than an hour counts as an hour.
    pub(crate) fn of(measured: impl IntoIterator<Item = Duration>) -> Self {
        let micros = |took: Duration| u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut sorted: Vec<u32> = measured.into_iter().map(micros).collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// Adds others.
    pub(crate) fn merge(&mut self, others: Self) {
        self.sorted.extend(others.sorted);
        self.sorted.sort_unstable();
    }

    /// The smallest value that at least this part of the samples (0 to 1) does not exceed; zero without samples.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let count = self.sorted.len();
        let rank = (part.clamp(0.0, 1.0) * count as f64).ceil() as usize;
        let index = rank.clamp(1, count.max(1)) - 1;
        Duration::from_micros(self.sorted.get(index).copied().unwrap_or(0).into())
    }

    /// Half of them took no longer.
    pub(crate) fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let samples = Samples::of((1..=20).rev().map(Duration::from_millis));
        assert_eq!(samples.median(), Duration::from_millis(10));
        assert_eq!(samples.quantile(0.0), Duration::from_millis(1));
        assert_eq!(samples.quantile(0.95), Duration::from_millis(19));
        assert_eq!(samples.quantile(0.99), Duration::from_millis(20));
        assert_eq!(samples.quantile(1.0), Duration::from_millis(20));
        assert_eq!(Samples::default().median(), Duration::ZERO);
    }
}
