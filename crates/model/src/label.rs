//! Labels: the names and values that tell the series of one metric apart.

use std::cmp::Ordering;

/// Labels sorted by name, each name once, no empty value (which means "label absent").
///
/// All names and values are in one text, for there are a dozen of them to a series and a million series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    text: Box<str>,
    /// Where each name and each value ends in the text.
    ends: Box<[u32]>,
}

impl Labels {
    /// Builds the set. Empty values are left out; of a repeated name the last value stays.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut sorted: Vec<(N, V)> = pairs.into_iter().collect();
        sorted.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref())); // stable, so the last of equal names stays last
        let len =
            sorted.iter().map(|(name, value)| name.as_ref().len() + value.as_ref().len()).sum();
        let mut text = String::with_capacity(len);
        let mut ends = Vec::with_capacity(2 * sorted.len());
        let mut rest = sorted.iter().peekable();
        while let Some((name, value)) = rest.next() {
            let (name, value) = (name.as_ref(), value.as_ref());
            let repeated = rest.peek().is_some_and(|(next, _)| next.as_ref() == name);
            if repeated || value.is_empty() {
                continue;
            }
            for part in [name, value] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Self { text: text.into(), ends: ends.into() }
    }

    fn part(&self, at: usize) -> &str {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        self.text.get(start..end(at)).unwrap_or_default()
    }

    /// The value of `name`, if the label is present.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have >= name).filter(|(have, _)| *have == name).map(|it| it.1)
    }

    /// Names and values, ascending by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        (0..self.len()).map(|at| (self.part(2 * at), self.part(2 * at + 1)))
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// By the first name or value that differs.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether `name` is a label name of the classic character set, `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_plain_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` is a metric name of the classic character set, `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_plain_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_unique_and_never_empty() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("c"), None);
        let same = Labels::from_pairs([("a", "1"), ("b", "3")]);
        assert_eq!((labels.len(), &labels), (2, &same));
        assert!(Labels::from_pairs([("b", "2"), ("b", "")]).is_empty(), "the last value is none");
    }

    #[test]
    fn labels_are_ordered_by_the_first_difference() {
        let mut pairs = [
            vec![("a", "b"), ("c", "d")],
            vec![("a", "bc")],
            vec![("ab", "")],
            vec![("a", "b")],
            vec![("ab", "c")],
        ];
        let sorted = |pairs: &[Vec<(&'static str, &'static str)>]| {
            let mut all: Vec<Labels> =
                pairs.iter().map(|it| Labels::from_pairs(it.iter().copied())).collect();
            all.sort();
            all.iter().map(|it| format!("{:?}", it.iter().collect::<Vec<_>>())).collect::<Vec<_>>()
        };
        pairs.iter_mut().for_each(|it| it.retain(|(_, value)| !value.is_empty()));
        let found = sorted(&pairs);
        pairs.sort();
        assert_eq!(found, pairs.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>());
    }
}
