//! Texts for people: names that are near another, and what HTML takes.

/// The one of `known` that is nearest to `name`, for a hint, if it is near enough to be meant: a third of its letters may differ.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|it| (distance(it, name), it)).min()?;
    (near.0 <= name.len() / 3).then_some(near.1)
}

/// Edits between two names: Levenshtein 1966.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut next = vec![i + 1];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != *y)).min(above + 1).min(left + 1));
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Text that is safe in a page, also as the value of an attribute.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_near_is_found_and_one_that_is_not_is_none() {
        assert_eq!(nearest("levl", ["up", "level", "lever_total"]), Some("level"));
        assert_eq!(nearest("memory", ["up", "level"]), None);
        assert_eq!(
            (distance("kitten", "sitting"), distance("", "abc"), distance("ä", "")),
            (3, 3, 1)
        );
        assert_eq!(escaped("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;&gt;");
    }
}
