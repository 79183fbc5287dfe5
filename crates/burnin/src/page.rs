//! The verdict as one self-contained HTML page: judgements, and plots of what was read.

use crate::verdict::{Judgement, State};
use model::text::escaped;
use std::fmt::Write;

/// A line of a plot: hours and values.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Points, times ascending.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows, with its unit.
    pub title: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// Spans of hours that are marked in each plot, with what was done.
pub type Marks = Vec<(f64, f64, String)>;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
const COLOURS: [&str; 4] = ["#2563eb", "#d97706", "#059669", "#7c3aed"];
/// Points of a line that are drawn.
const DRAWN: usize = 900;

/// The page.
pub fn page(
    title: &str,
    facts: &str,
    judged: &[Judgement],
    plots: &[Plot],
    marks: &Marks,
) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:14px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111}}\
         table{{border-collapse:collapse;width:100%}}td,th{{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}}\
         .pass{{color:#047857}}.fail{{color:#b91c1c;font-weight:700}}.not_measured{{color:#6b7280}}\
         code{{font-size:12px;color:#444;overflow-wrap:anywhere}}svg{{width:100%;height:auto;background:#fafafa}}\
         @media(prefers-color-scheme:dark){{body{{background:#111;color:#eee}}svg{{background:#1a1a1a}}code{{color:#bbb}}.pass{{color:#34d399}}.fail{{color:#f87171}}td,th{{border-color:#333}}}}\
         </style><h1>{title}</h1><p>{}</p>",
        escaped(facts),
        title = escaped(title)
    );
    for plot in plots {
        draw(&mut out, plot, marks);
    }
    out.push_str(
        "<h2>Criteria</h2><table><tr><th>id<th>criterion<th>verdict<th>found<th>limit</tr>",
    );
    for it in judged {
        let (class, word) = match it.state {
            State::Pass => ("pass", "pass"),
            State::Fail => ("fail", "fail"),
            State::NotMeasured => ("not_measured", "not measured"),
        };
        let source = if it.source.is_empty() {
            String::new()
        } else {
            format!("<br><code>{}</code>", escaped(&it.source))
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=\"{class}\">{word}<td>{}{source}<td>{}</tr>",
            it.id,
            escaped(it.criterion),
            escaped(&it.found),
            escaped(&it.limit)
        );
    }
    out.push_str("</table></html>\n");
    out
}

fn draw(out: &mut String, plot: &Plot, marks: &Marks) {
    let finite = || plot.lines.iter().flat_map(|line| &line.points).filter(|it| it.1.is_finite());
    let most = finite().map(|it| it.1).fold(0.0, f64::max).max(1e-9);
    let hours = finite().map(|it| it.0).fold(0.0, f64::max).max(1e-9);
    let x = |hour: f64| hour / hours * WIDTH;
    let y = |value: f64| HEIGHT - value / most * (HEIGHT - 10.0);
    let _ = write!(
        out,
        "<h3>{}</h3><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">",
        escaped(&plot.title),
        HEIGHT + 16.0
    );
    for (from, to, what) in marks {
        let width = (x(*to) - x(*from)).max(2.0);
        let _ = write!(
            out,
            "<rect x=\"{:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"#f59e0b\" opacity=\".25\"><title>{}</title></rect>",
            x(*from),
            escaped(what)
        );
    }
    for (at, line) in plot.lines.iter().enumerate() {
        let step = line.points.len().div_ceil(DRAWN).max(1);
        let points: String = line
            .points
            .iter()
            .step_by(step)
            .filter(|it| it.1.is_finite())
            .map(|(hour, value)| format!("{:.1},{:.1} ", x(*hour), y(*value)))
            .collect();
        let colour = COLOURS.get(at % COLOURS.len()).copied().unwrap_or_default();
        let _ = write!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{}\" y=\"14\" font-size=\"12\" fill=\"{colour}\">{}</text>",
            8 + at * 160,
            escaped(&line.name)
        );
    }
    let decimals = if most >= 100.0 { 0 } else { 2 };
    let _ = write!(
        out,
        "<text x=\"{WIDTH}\" y=\"14\" font-size=\"12\" text-anchor=\"end\" fill=\"#888\">{}</text>\
         <text x=\"{WIDTH}\" y=\"{}\" font-size=\"12\" text-anchor=\"end\" fill=\"#888\">{hours:.1} h</text></svg>",
        format_args!("{most:.decimals$}"),
        HEIGHT + 13.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_what_was_found_cannot_break_it() {
        let judged = Judgement {
            id: "R1.1",
            criterion: "up",
            state: State::Fail,
            found: "<script>".to_owned(),
            limit: "1 & 2".to_owned(),
            source: "SELECT \"x\"".to_owned(),
        };
        let points = (0..5_000).map(|n| (f64::from(n), f64::from(n % 100))).collect();
        let line = Line { name: "a".to_owned(), points };
        let plot = Plot { title: "memory".to_owned(), lines: vec![line] };
        let marks = vec![(10.0, 20.0, "kill".to_owned())];
        let text = page("Burn-in", "facts", &[judged], &[plot], &marks);
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script"), "{text}");
        assert!(!text.contains("http://") && !text.contains("https://"));
        assert!(text.len() < 60_000, "{}", text.len());
    }
}
