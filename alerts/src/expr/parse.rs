//! From text to expression. Every fault names its place, counted in characters from 1, and the remedy.

use super::token::{ExprFault, Token, shown, tokens};
use super::{
    Aggregate, Call, Expr, Grouping, Many, Matcher, Matching, Operator, OverTime, Selector, Test,
};
use regex::Regex;
use std::collections::BTreeSet;
use std::time::Duration;

/// Levels of brackets and operators within each other.
const DEEPEST: usize = 64;

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> Result<Expr, ExprFault> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let expr = parser.binary(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => Err(parser.fault(&format!("{} is not expected here", shown(other)))),
    }
}

/// Parses `name="value"` pairs without braces, separated by commas.
pub(crate) fn matchers(text: &str) -> Result<Vec<Matcher>, ExprFault> {
    let mut tokens = tokens(text)?;
    tokens.insert(0, (0, Token::Sign("{")));
    let end = tokens.len() - 1;
    tokens.insert(end, (text.chars().count(), Token::Sign("}")));
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let matchers = parser.braces()?;
    match parser.peek() {
        Token::End => Ok(matchers),
        other => Err(parser.fault(&format!("{} is not expected here", shown(other)))),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at)
    }

    fn fault(&self, why: &str) -> ExprFault {
        ExprFault { at: self.place(), why: why.to_owned() }
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Token::Sign(have) if *have == sign);
        self.next += usize::from(there);
        there
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Token::Word(have) if have.eq_ignore_ascii_case(word));
        self.next += usize::from(there);
        there
    }

    fn want(&mut self, sign: &str) -> Result<(), ExprFault> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(self.fault(&format!("{sign:?} is missing here, there is {}", shown(self.peek()))))
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        Some(match self.peek() {
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "or" => (Operator::Or, 1),
                "and" => (Operator::And, 2),
                "unless" => (Operator::Unless, 2),
                _ => return None,
            },
            Token::Sign(sign) => match *sign {
                "==" => (Operator::Equal, 3),
                "!=" => (Operator::NotEqual, 3),
                "<" => (Operator::Less, 3),
                "<=" => (Operator::LessEqual, 3),
                ">" => (Operator::More, 3),
                ">=" => (Operator::MoreEqual, 3),
                "+" => (Operator::Add, 4),
                "-" => (Operator::Subtract, 4),
                "*" => (Operator::Multiply, 5),
                "/" => (Operator::Divide, 5),
                "%" => (Operator::Modulo, 5),
                "^" => (Operator::Power, 6),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Result<Expr, ExprFault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault("the expression is nested too deeply; split the rule"));
        }
        let mut left = self.unary()?;
        while let Some((operator, rank)) = self.operator().filter(|(_, rank)| *rank > least) {
            self.next += 1;
            let truth = operator.is_comparison() && self.takes_word("bool");
            let matching = self.matching()?;
            let place = self.place();
            // Power binds to the right, the others to the left.
            let right = self.binary(if operator == Operator::Power { rank - 1 } else { rank })?;
            let why = match (left.is_scalar(), right.is_scalar()) {
                (false, false) => None,
                _ if operator.is_set() => {
                    Some("and, or and unless join series; a number stands on one side here")
                }
                (true, true) if operator.is_comparison() && !truth => Some(
                    "two numbers are compared here, which is always an answer; say bool, or compare series",
                ),
                _ => None,
            };
            if let Some(why) = why {
                return Err(ExprFault { at: place, why: why.to_owned() });
            }
            left = Expr::Binary {
                operator,
                truth,
                matching,
                left: Box::new(left),
                right: Box::new(right),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn matching(&mut self) -> Result<Matching, ExprFault> {
        let mut matching = Matching {
            by: Grouping::Without(BTreeSet::new()),
            many: Many::No,
            include: BTreeSet::new(),
        };
        if self.takes_word("on") {
            matching.by = Grouping::By(self.names()?);
        } else if self.takes_word("ignoring") {
            matching.by = Grouping::Without(self.names()?);
        }
        for (word, many) in [("group_left", Many::Left), ("group_right", Many::Right)] {
            if self.takes_word(word) {
                matching.many = many;
                if matches!(self.peek(), Token::Sign("(")) {
                    matching.include = self.names()?;
                }
            }
        }
        Ok(matching)
    }

    fn unary(&mut self) -> Result<Expr, ExprFault> {
        if self.takes("-") {
            let of = self.binary(5)?;
            let matching = Matching {
                by: Grouping::Without(BTreeSet::new()),
                many: Many::No,
                include: BTreeSet::new(),
            };
            let (left, right) = (Box::new(Expr::Number(-1.0)), Box::new(of));
            return Ok(Expr::Binary {
                operator: Operator::Multiply,
                truth: false,
                matching,
                left,
                right,
            });
        }
        self.takes("+");
        if self.takes("(") {
            let inner = self.binary(0)?;
            self.want(")")?;
            return Ok(inner);
        }
        let at = self.place();
        match self.peek().clone() {
            Token::Number(number) => {
                self.next += 1;
                Ok(Expr::Number(number))
            }
            Token::Word(word) => self.word(&word, at),
            other => Err(self.fault(&format!(
                "a metric, a number, a function or a bracket is missing here, there is {}",
                shown(&other)
            ))),
        }
    }

    fn word(&mut self, word: &str, at: usize) -> Result<Expr, ExprFault> {
        self.next += 1;
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "inf" => return Ok(Expr::Number(f64::INFINITY)),
            "nan" => return Ok(Expr::Number(f64::NAN)),
            _ => {}
        }
        if let Some(how) = aggregate(&lower) {
            return self.aggregate(how);
        }
        if matches!(self.peek(), Token::Sign("(")) {
            if let Some(function) = over_time(&lower) {
                return self.over_time(function);
            }
            if let Some((function, least, most)) = call(&lower) {
                self.want("(")?;
                let mut arguments = Vec::new();
                while !self.takes(")") {
                    arguments.push(self.binary(0)?);
                    if !self.takes(",") {
                        self.want(")")?;
                        break;
                    }
                }
                if !(least..=most).contains(&arguments.len()) {
                    let why = format!(
                        "{lower} takes {least} to {most} arguments, here are {}",
                        arguments.len()
                    );
                    return Err(ExprFault { at, why });
                }
                let arguments =
                    typed(function, &lower, arguments).map_err(|why| ExprFault { at, why })?;
                return Ok(Expr::Call { function, arguments });
            }
            return Err(ExprFault {
                at,
                why: format!("the function {word} is not known; known are {}", KNOWN),
            });
        }
        let selector = self.selector(word, at)?;
        if matches!(self.peek(), Token::Sign("[")) {
            return Err(self.fault("a range is only taken by a function such as rate(…[5m])"));
        }
        Ok(Expr::Select(selector))
    }

    fn aggregate(&mut self, how: Aggregate) -> Result<Expr, ExprFault> {
        let mut grouping = self.grouping()?;
        self.want("(")?;
        let place = self.place();
        let of = Box::new(self.binary(0)?);
        if of.is_scalar() {
            let why = "series are missing here, there is a number".to_owned();
            return Err(ExprFault { at: place, why });
        }
        self.want(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let grouping = grouping.unwrap_or_else(|| Grouping::By(BTreeSet::new()));
        Ok(Expr::Aggregate { how, grouping, of })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ExprFault> {
        if self.takes_word("by") {
            return Ok(Some(Grouping::By(self.names()?)));
        }
        if self.takes_word("without") {
            return Ok(Some(Grouping::Without(self.names()?)));
        }
        Ok(None)
    }

    fn names(&mut self) -> Result<BTreeSet<String>, ExprFault> {
        self.want("(")?;
        let mut names = BTreeSet::new();
        while !self.takes(")") {
            match self.take() {
                Token::Word(name) => drop(names.insert(name)),
                other => {
                    self.next -= 1;
                    return Err(self.fault(&format!(
                        "a label name is missing here, there is {}",
                        shown(&other)
                    )));
                }
            }
            if !self.takes(",") {
                self.want(")")?;
                break;
            }
        }
        Ok(names)
    }

    fn over_time(&mut self, function: OverTime) -> Result<Expr, ExprFault> {
        self.want("(")?;
        let mut argument = f64::NAN;
        if function == OverTime::Quantile {
            argument = self.number("quantile_over_time takes a number first")?;
            self.want(",")?;
        }
        let at = self.place();
        let Token::Word(metric) = self.take() else {
            self.next -= 1;
            return Err(self.fault("a metric with a range is missing here, such as name[5m]"));
        };
        let matchers =
            if matches!(self.peek(), Token::Sign("{")) { self.braces()? } else { Vec::new() };
        if !self.takes("[") {
            return Err(self.fault("a range is missing here, such as [5m]"));
        }
        let range = match self.take() {
            Token::Duration(range) if !range.is_zero() => range,
            other => {
                self.next -= 1;
                return Err(self.fault(&format!(
                    "a duration such as 5m is missing here, there is {}",
                    shown(&other)
                )));
            }
        };
        self.want("]")?;
        let offset = self.offset()?;
        if function == OverTime::PredictLinear {
            self.want(",")?;
            argument = self.number("predict_linear takes the seconds ahead as a number")?;
        }
        self.want(")")?;
        let selector = Selector { metric, matchers, offset, at };
        Ok(Expr::OverTime { function, range, selector, argument })
    }

    fn number(&mut self, why: &str) -> Result<f64, ExprFault> {
        let place = self.fault(why);
        self.binary(3)?.constant().ok_or(place)
    }

    fn selector(&mut self, metric: &str, at: usize) -> Result<Selector, ExprFault> {
        let matchers =
            if matches!(self.peek(), Token::Sign("{")) { self.braces()? } else { Vec::new() };
        let offset = self.offset()?;
        Ok(Selector { metric: metric.to_owned(), matchers, offset, at })
    }

    fn offset(&mut self) -> Result<Duration, ExprFault> {
        if !self.takes_word("offset") {
            return Ok(Duration::ZERO);
        }
        match self.take() {
            Token::Duration(offset) => Ok(offset),
            other => {
                self.next -= 1;
                Err(self.fault(&format!(
                    "a duration such as 5m is missing here, there is {}",
                    shown(&other)
                )))
            }
        }
    }

    fn braces(&mut self) -> Result<Vec<Matcher>, ExprFault> {
        self.want("{")?;
        let mut matchers = Vec::new();
        while !self.takes("}") {
            let Token::Word(label) = self.take() else {
                self.next -= 1;
                return Err(self.fault("a label name is missing here"));
            };
            let Token::Sign(sign) = self.take() else {
                self.next -= 1;
                return Err(self.fault("one of = != =~ !~ is missing here"));
            };
            let at = self.place();
            let Token::Text(text) = self.take() else {
                self.next -= 1;
                return Err(self.fault("the value must stand in quotes"));
            };
            let regex = || {
                Regex::new(&format!("^(?:{text})$")).map_err(|error| {
                    let words = error.to_string();
                    let last = words.lines().last().unwrap_or_default().trim().to_owned();
                    ExprFault { at, why: format!("{text:?} is no regular expression: {last}") }
                })
            };
            let test = match sign {
                "=" => Test::Is(text),
                "!=" => Test::IsNot(text),
                "=~" => Test::Matches(regex()?),
                "!~" => Test::MatchesNot(regex()?),
                _ => {
                    return Err(ExprFault {
                        at,
                        why: format!("{sign:?} compares no label; use = != =~ !~"),
                    });
                }
            };
            matchers.push(Matcher { label, test });
            if !self.takes(",") {
                self.want("}")?;
                break;
            }
        }
        Ok(matchers)
    }
}

/// Arguments of a function as it takes them: numbers computed, series where series are wanted.
fn typed(function: Call, name: &str, mut arguments: Vec<Expr>) -> Result<Vec<Expr>, String> {
    let number = match function {
        Call::HistogramQuantile => Some(0),
        Call::ClampMin | Call::ClampMax => Some(1),
        _ => None,
    };
    for (at, argument) in arguments.iter_mut().enumerate() {
        if Some(at) == number {
            let value = argument.constant().ok_or_else(|| {
                format!("argument {} of {name} must be a number that is known beforehand", at + 1)
            })?;
            *argument = Expr::Number(value);
        } else if argument.is_scalar() && function != Call::Vector {
            return Err(format!("argument {} of {name} must be series, it is a number", at + 1));
        }
    }
    Ok(arguments)
}

const KNOWN: &str = "rate increase delta deriv predict_linear, min_ max_ avg_ sum_ count_ last_ quantile_ absent_over_time, \
    changes resets gone absent abs ceil floor round clamp_min clamp_max histogram_quantile time vector, sum min max avg count";

fn aggregate(word: &str) -> Option<Aggregate> {
    Some(match word {
        "sum" => Aggregate::Sum,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "avg" => Aggregate::Avg,
        "count" => Aggregate::Count,
        _ => return None,
    })
}

fn over_time(word: &str) -> Option<OverTime> {
    Some(match word {
        "rate" => OverTime::Rate,
        "increase" => OverTime::Increase,
        "delta" => OverTime::Delta,
        "deriv" => OverTime::Deriv,
        "predict_linear" => OverTime::PredictLinear,
        "min_over_time" => OverTime::Min,
        "max_over_time" => OverTime::Max,
        "avg_over_time" => OverTime::Avg,
        "sum_over_time" => OverTime::Sum,
        "count_over_time" => OverTime::Count,
        "last_over_time" => OverTime::Last,
        "quantile_over_time" => OverTime::Quantile,
        "changes" => OverTime::Changes,
        "resets" => OverTime::Resets,
        "absent_over_time" => OverTime::Absent,
        "gone" => OverTime::Gone,
        _ => return None,
    })
}

fn call(word: &str) -> Option<(Call, usize, usize)> {
    Some(match word {
        "absent" => (Call::Absent, 1, 1),
        "abs" => (Call::Abs, 1, 1),
        "ceil" => (Call::Ceil, 1, 1),
        "floor" => (Call::Floor, 1, 1),
        "round" => (Call::Round, 1, 1),
        "clamp_min" => (Call::ClampMin, 2, 2),
        "clamp_max" => (Call::ClampMax, 2, 2),
        "histogram_quantile" => (Call::HistogramQuantile, 2, 2),
        "time" => (Call::Time, 0, 0),
        "vector" => (Call::Vector, 1, 1),
        _ => return None,
    })
}
