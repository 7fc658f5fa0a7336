//! What can be said about a few measurements of a noisy machine.
//!
//! Input: one number per pair. Output: their median with the extremes, ratios within pairs, and a
//! verdict against a bar. No means: one bad pair would move them.

/// With fewer pairs the extremes say nothing about the spread.
const DECIDING_PAIRS_MIN: usize = 3;

/// The middle and the extremes of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// `None` where nothing was measured.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self {
            median,
            min,
            max,
            count: sorted.len(),
        })
    }

    /// Holds these measurements against a bar which they must not exceed.
    pub(crate) fn judge(&self, at_most: f64) -> Verdict {
        if self.count < DECIDING_PAIRS_MIN {
            Verdict::Undecided
        } else if self.max <= at_most {
            Verdict::Met
        } else if self.min > at_most {
            Verdict::Missed
        } else {
            Verdict::Undecided
        }
    }
}

/// What the measurements say about a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of them are within it.
    Met,
    /// None is.
    Missed,
    /// The bar lies inside the spread, or there are too few to know the spread.
    Undecided,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Undecided => "undecided",
        }
    }
}

/// The ratios within each pair. What disturbs the machine for minutes disturbs both sides of one.
pub(crate) fn ratios(dividends: &[f64], divisors: &[f64]) -> Vec<f64> {
    dividends
        .iter()
        .zip(divisors)
        .filter(|(_, divisor)| **divisor > 0.0)
        .map(|(dividend, divisor)| dividend / divisor)
        .collect()
}

/// The smallest of the sorted values that at least `per_cent` of 100 of them don't exceed; `None`
/// where there are none.
pub(crate) fn percentile(sorted: &[f64], per_cent: usize) -> Option<f64> {
    let rank = (sorted.len() * per_cent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(samples: &[f64]) -> Spread {
        Spread::of(samples).unwrap()
    }

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        let odd = spread(&[5.0, 1.0, 9.0]);
        assert_eq!(
            (odd.min, odd.median, odd.max, odd.count),
            (1.0, 5.0, 9.0, 3)
        );
        assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]).median, 3.0);
        assert_eq!(spread(&[7.0]).median, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_bar_inside_the_spread_is_undecided() {
        let measured = spread(&[0.3, 0.2, 0.4]);
        assert_eq!(measured.judge(0.4), Verdict::Met);
        assert_eq!(measured.judge(0.39), Verdict::Undecided);
        assert_eq!(measured.judge(0.2), Verdict::Undecided);
        assert_eq!(measured.judge(0.19), Verdict::Missed);
    }

    #[test]
    fn two_pairs_decide_nothing() {
        assert_eq!(spread(&[0.1, 0.1]).judge(1.0), Verdict::Undecided);
        assert_eq!(spread(&[2.0, 2.0]).judge(1.0), Verdict::Undecided);
        assert_eq!(spread(&[0.1, 0.1, 0.1]).judge(1.0), Verdict::Met);
    }

    #[test]
    fn ratios_are_taken_within_pairs() {
        assert_eq!(ratios(&[1.0, 3.0], &[2.0, 4.0]), [0.5, 0.75]);
        assert_eq!(ratios(&[1.0, 3.0], &[2.0]), [0.5]);
        assert_eq!(ratios(&[1.0, 3.0], &[0.0, 4.0]), [0.75]);
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50), Some(50.0));
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&hundred, 100), Some(100.0));
        assert_eq!(percentile(&hundred[..3], 99), Some(3.0));
        assert_eq!(percentile(&hundred, 0), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
