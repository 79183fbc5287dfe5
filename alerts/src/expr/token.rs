//! The words of an expression: names, texts, numbers, durations and signs, each with its place.

use model::time::parse_duration;
use std::time::Duration;

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExprFault {
    /// In characters from the start, 0 is the first.
    pub(crate) at: usize,
    pub(crate) why: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Number(f64),
    Duration(Duration),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 23] = [
    "=~", "!~", "!=", "==", ">=", "<=", "(", ")", "{", "}", "[", "]", ",", "+", "-", "*", "/", "%",
    "^", "=", ">", "<", ":",
];

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExprFault> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = chars.get(at).copied() {
        let start = at;
        if first.is_whitespace() {
            at += 1;
        } else if first == '#' {
            while chars.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
        } else if first.is_alphabetic() || first == '_' || first == ':' {
            while chars
                .get(at)
                .is_some_and(|c| c.is_alphanumeric() || *c == '_' || *c == ':' || *c == '.')
            {
                at += 1;
            }
            found.push((start, Token::Word(chars.iter().skip(start).take(at - start).collect())));
        } else if first.is_ascii_digit() || first == '.' {
            let part = |c: &char, before: Option<&char>| {
                c.is_ascii_alphanumeric()
                    || *c == '.'
                    || ("+-".contains(*c) && before.is_some_and(|b| "eE".contains(*b)))
            };
            while chars
                .get(at)
                .is_some_and(|c| part(c, at.checked_sub(1).and_then(|b| chars.get(b))))
            {
                at += 1;
            }
            let word: String = chars.iter().skip(start).take(at - start).collect();
            let token = match (word.parse(), parse_duration(&word)) {
                (Ok(number), _) => Token::Number(number),
                (_, Ok(duration)) => Token::Duration(duration),
                _ => {
                    return Err(ExprFault {
                        at: start,
                        why: format!("{word:?} is neither a number nor a duration such as 5m"),
                    });
                }
            };
            found.push((start, token));
        } else if first == '"' || first == '\'' || first == '`' {
            let (string, end) = quoted(&chars, at)?;
            found.push((start, Token::Text(string)));
            at = end;
        } else {
            let fits =
                |sign: &&&str| sign.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
            let Some(sign) = SIGNS.iter().find(fits) else {
                return Err(ExprFault {
                    at,
                    why: format!("{first:?} means nothing in an expression"),
                });
            };
            at += sign.len();
            found.push((start, Token::Sign(sign)));
        }
    }
    found.push((chars.len(), Token::End));
    Ok(found)
}

fn quoted(chars: &[char], start: usize) -> Result<(String, usize), ExprFault> {
    let quote = chars.get(start).copied().unwrap_or('"');
    let mut text = String::new();
    let mut at = start + 1;
    loop {
        match chars.get(at).copied() {
            None => {
                return Err(ExprFault {
                    at: start,
                    why: format!("the text that begins here has no closing {quote}"),
                });
            }
            Some(c) if c == quote => return Ok((text, at + 1)),
            Some('\\') if quote != '`' => {
                at += 1;
                text.push(match chars.get(at).copied() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(sign @ ('\\' | '"' | '\'')) => sign,
                    other => {
                        let sign = other.map(String::from).unwrap_or_default();
                        let why =
                            format!("\\{sign} is no escape; a backslash is \\\\, so \\\\{sign}");
                        return Err(ExprFault { at: at - 1, why });
                    }
                });
            }
            Some(c) => text.push(c),
        }
        at += 1;
    }
}

pub(super) fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("{word:?}"),
        Token::Text(text) => format!("the text {text:?}"),
        Token::Number(number) => format!("the number {number}"),
        Token::Duration(duration) => format!("the duration {duration:?}"),
        Token::Sign(sign) => format!("{sign:?}"),
        Token::End => "the end".to_owned(),
    }
}
