//! The capacity report as a page, Markdown, CSV or JSON.

use super::capacity::{Capacity, Resource};
use super::plot;
use crate::detect::text::{percent, seconds, time, value};
use crate::finding::Estimate;
use model::text::escaped;
use std::fmt::Write;

/// Shares of the limit in the report.
const SHARES: [&str; 4] = ["70", "80", "90", "100"];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
h1{font-size:1.4rem}h2{font-size:1rem;margin:2rem 0 .2rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}\
svg{width:100%;height:auto;font-size:11px}svg text{fill:currentColor;opacity:.7}.grid{stroke:#8884}\
.was,.expected{fill:none;stroke:#2563eb;stroke-width:1.5}.expected{stroke-dasharray:5 3}.band{fill:#2563eb;opacity:.14}.limit{stroke:#cf222e}\
.soon{color:#cf222e}@media print{body{max-width:none}}";

impl Capacity {
    /// A page that needs nothing else.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Capacity report</title>\n<style>{STYLE}</style>\n<h1>Capacity report of {}</h1>\n<p>{}</p>\n",
            escaped(&time(self.at.millis())),
            escaped(&self.lead())
        );
        page.push_str("<table><thead><tr><th>Resource<th>Used<th>Grows a day");
        for share in SHARES {
            let _ = write!(page, "<th>{share} % in");
        }
        page.push_str("<th>Chance of full in 400 days</thead>\n<tbody>\n");
        for (at, of) in self.resources.iter().enumerate() {
            let soon = of.number("seconds_to_100").is_some_and(|it| it.value < 7.0 * 86_400.0);
            let class = if soon { " class=\"soon\"" } else { "" };
            let _ = write!(
                page,
                "<tr{class}><td><a href=\"#r{at}\">{}</a>",
                escaped(&of.subject.to_string())
            );
            for cell in of.cells() {
                let _ = write!(page, "<td>{}", escaped(&cell));
            }
            page.push('\n');
        }
        page.push_str("</tbody></table>\n");
        for (at, of) in self.resources.iter().enumerate() {
            let _ = write!(
                page,
                "<h2 id=\"r{at}\">{}</h2>\n<p>{}</p>\n{}\n",
                escaped(&of.subject.to_string()),
                escaped(&of.summary),
                plot::svg(of, &|it| value(&of.subject.metric, it))
            );
        }
        let _ = write!(
            page,
            "<p>{}</p>\n<p>{}</p>\n</html>\n",
            escaped(&self.accuracy()),
            escaped(READING)
        );
        page
    }

    /// Markdown: the table, and a line for each resource.
    pub fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('|', "\\|");
        let mut page =
            format!("# Capacity report of {}\n{}\n\n", time(self.at.millis()), self.lead());
        page.push_str("| resource | used | grows a day |");
        for share in SHARES {
            let _ = write!(page, " {share} % in |");
        }
        page.push_str(
            " chance of full in 400 days |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for of in &self.resources {
            let _ = write!(page, "| `{}` |", cell(&of.subject.to_string()));
            for text in of.cells() {
                let _ = write!(page, " {} |", cell(&text));
            }
            page.push('\n');
        }
        let _ = write!(page, "\n{}\n\n{READING}\n", self.accuracy());
        page
    }

    /// A row for each resource; times in seconds, nothing where it is never reached.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "metric,labels,used,limit,rate_per_day,rate_per_day_low,rate_per_day_high",
        );
        for share in SHARES {
            let _ =
                write!(text, ",seconds_to_{share},seconds_to_{share}_low,seconds_to_{share}_high");
        }
        text.push_str(",probability_of_full\n");
        for of in &self.resources {
            let labels = serde_json::to_string(&of.subject.labels).unwrap_or_default();
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let _ = write!(text, "{},{}", quoted(&of.subject.metric), quoted(&labels));
            for name in ["used", "limit"] {
                let number = of.number(name).map(|it| it.value.to_string());
                let _ = write!(text, ",{}", number.unwrap_or_default());
            }
            let names = std::iter::once("rate_per_day".to_owned())
                .chain(SHARES.map(|share| format!("seconds_to_{share}")));
            for name in names {
                let of = of.number(&name);
                let ends =
                    [of.map(|it| it.value), of.and_then(|it| it.low), of.and_then(|it| it.high)];
                for end in ends {
                    let _ = write!(text, ",{}", end.map(|it| it.to_string()).unwrap_or_default());
                }
            }
            let chance = of.number("probability_of_full").map(|it| it.value.to_string());
            let _ = writeln!(text, ",{}", chance.unwrap_or_default());
        }
        text
    }

    /// Everything, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn lead(&self) -> String {
        let week = 7.0 * 86_400.0;
        let soon = self
            .resources
            .iter()
            .filter(|of| of.number("seconds_to_100").is_some_and(|it| it.value < week));
        match (self.resources.len() + self.more, soon.count()) {
            (0, _) => "No resource has enough history yet; a day of samples of one with a known limit is needed.".to_owned(),
            (1, 0) => "One resource, which is not full within a week.".to_owned(),
            (1, _) => "One resource, which is full within a week.".to_owned(),
            (all, 0) => format!("{all} resources, none of them full within a week.{}", self.cut()),
            (all, soon) => {
                format!("{all} resources, {soon} of them full within a week.{}", self.cut())
            }
        }
    }

    fn cut(&self) -> String {
        if self.more == 0 {
            return String::new();
        }
        format!(" The {} that are full soonest are shown.", self.resources.len())
    }

    fn accuracy(&self) -> String {
        let of = &self.coverage;
        if of.scored == 0 {
            return "No earlier forecast could be scored yet.".to_owned();
        }
        let [half, most, nearly] = of.within.map(percent);
        format!(
            "Of {} earlier forecasts whose time has come, {half} were within the 50 % band, {most} within the 80 % band and {nearly} within the 95 % band.",
            of.scored
        )
    }
}

const READING: &str = "Times are medians, with the interval that holds nine times of ten. In the pictures the line is the past by the hour, the \
dashes what is expected, the bands hold it half, four fifths and nineteen twentieths of the time.";

impl Resource {
    /// Use, rate, times to the shares, chance.
    fn cells(&self) -> Vec<String> {
        let with = |it: Estimate, size: &dyn Fn(f64) -> String| match (it.low, it.high) {
            (Some(low), Some(high)) => {
                format!("{} ({} to {})", size(it.value), size(low), size(high))
            }
            (Some(low), None) => format!("{} ({} or more)", size(it.value), size(low)),
            _ => size(it.value),
        };
        let metric = &self.subject.metric;
        let rate = self.number("rate_per_day");
        let used = match (self.number("used"), self.number("limit")) {
            (Some(used), Some(limit)) => {
                let share = percent(used.value / limit.value);
                format!("{share} of {}", value(metric, limit.value))
            }
            (Some(used), None) => value(metric, used.value),
            _ => String::new(),
        };
        let rate = rate.map_or_else(String::new, |it| with(it, &|it| value(metric, it)));
        let mut cells = vec![used, rate];
        for share in SHARES {
            cells.push(match self.number(&format!("seconds_to_{share}")) {
                Some(it) if it.value <= 0.0 => "reached".to_owned(),
                Some(it) => with(it, &seconds),
                None => "not in sight".to_owned(),
            });
        }
        let chance = self.number("probability_of_full");
        cells.push(chance.map_or_else(|| "no known limit".to_owned(), |it| percent(it.value)));
        cells
    }
}
