//! The key that a misspelt one was probably meant to be.
//!
//! Input: a name and the names there are. Output: the nearest of them, if it is near enough to be
//! worth a question.
//!
//! Source: the optimal string alignment distance (Damerau–Levenshtein without overlaps).

/// Longest name that is compared. A longer one is nobody's typing error, and the cost is quadratic.
const MAX_NAME_CHARS: usize = 128;

/// The candidate with the fewest single-letter edits from `name`, if they are at most a third of
/// it. Among equals the first wins.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let name: Vec<char> = name
        .to_lowercase()
        .chars()
        .take(MAX_NAME_CHARS + 1)
        .collect();
    if name.len() > MAX_NAME_CHARS {
        return None;
    }
    let limit = (name.len() / 3).max(1);
    candidates
        .map(|candidate| {
            (
                distance(&name, &candidate.chars().collect::<Vec<_>>()),
                candidate,
            )
        })
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `from` into `to`.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_previous = vec![0; to.len() + 1];
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut current = vec![i + 1; to.len() + 1];
        for (j, &b) in to.iter().enumerate() {
            let substitution = previous[j] + usize::from(a != b);
            let mut edits = substitution.min(previous[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && from[i - 1] == b {
                edits = edits.min(before_previous[j - 1] + 1);
            }
            current[j + 1] = edits;
        }
        before_previous = previous;
        previous = current;
    }
    previous[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(from: &str, to: &str) -> usize {
        distance(
            &from.chars().collect::<Vec<_>>(),
            &to.chars().collect::<Vec<_>>(),
        )
    }

    #[test]
    fn counts_the_four_edits() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
        assert_eq!(edits("segment", "segmnet"), 1, "a swap");
        assert_eq!(edits("segment", "segmant"), 1, "a substitution");
        assert_eq!(
            edits("segment", "segents"),
            2,
            "a deletion and an insertion"
        );
    }

    #[test]
    fn names_the_nearest_and_is_silent_about_strangers() {
        let keys = [
            "log.segment.bytes",
            "log.segment.delete.delay.ms",
            "num.partitions",
        ];
        assert_eq!(
            nearest("log.segmnet.bytes", keys.into_iter()),
            Some("log.segment.bytes")
        );
        assert_eq!(
            nearest("Num.Partition", keys.into_iter()),
            Some("num.partitions")
        );
        assert_eq!(nearest("zookeeper.connect", keys.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(100_000), keys.into_iter()), None);
    }
}
