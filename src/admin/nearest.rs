//! Which of the right words did they mean? Used for commands, tables and columns here and for keys of the configuration.

/// The word of `known` with the smallest edit distance to `word` (insertions, deletions, substitutions and swaps of
/// neighbours, upper and lower case being equal), if that distance is small enough to be a slip: at most a third of the
/// word's length, at least one. The earlier of equally near words wins.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Names are short; nobody is served by a guess about a word of a thousand letters.
    const LETTERS_MAX: usize = 64;
    let word: Vec<char> = word.to_lowercase().chars().take(LETTERS_MAX + 1).collect();
    if word.is_empty() || word.len() > LETTERS_MAX {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        let limit = (word.len().max(other.len()) / 3).max(1);
        let distance = distance(&word, &other);
        // A word that continues or abbreviates the other is meant even when much is missing: `listen_address`, `stmts`.
        let near = distance <= limit || (word.len() >= 4 && (other.starts_with(&word) || word.starts_with(&other)));
        if near && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, word)| word)
}

/// Optimal string alignment distance with three rows.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    let mut current = vec![0; b.len() + 1];
    for (i, x) in a.iter().enumerate() {
        current[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let mut best = (previous[j] + usize::from(x != y)).min(previous[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            current[j + 1] = best;
        }
        std::mem::swap(&mut before, &mut previous);
        std::mem::swap(&mut previous, &mut current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word() {
        let known = ["listen", "max_clients", "drain_timeout", "worker_threads"];
        for (typed, meant) in [
            ("listn", Some("listen")),
            ("lisetn", Some("listen")),
            ("LISTEN", Some("listen")),
            ("maxclients", Some("max_clients")),
            ("max-clients", Some("max_clients")),
            ("drain_time", Some("drain_timeout")),
            ("threads", None),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
