//! The picture of one resource: its history, what is expected, and the bands, as SVG.

use super::capacity::Resource;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers at the left and the days below.
const LEFT: f64 = 80.0;
const BELOW: f64 = 24.0;

const DAY: i64 = 86_400_000;

/// Where a point lies in the picture.
struct Frame {
    from: i64,
    to: i64,
    low: f64,
    high: f64,
}

impl Frame {
    fn x(&self, time: i64) -> f64 {
        let span = (self.to - self.from).max(1) as f64;
        LEFT + (time - self.from) as f64 / span * (WIDTH - LEFT - 8.0)
    }

    fn y(&self, value: f64) -> f64 {
        let span = (self.high - self.low).max(f64::MIN_POSITIVE);
        8.0 + (self.high - value) / span * (HEIGHT - BELOW - 8.0)
    }
}

/// The picture; `size` writes a value of the resource. Empty without history.
pub(crate) fn svg(of: &Resource, size: &dyn Fn(f64) -> String) -> String {
    let Some(frame) = frame(of) else { return String::new() };
    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{} and its forecast">"#,
        model::text::escaped(&of.subject.metric)
    );
    for band in (0..3).rev() {
        let edge = |high: usize| {
            let ends = of
                .ahead
                .iter()
                .filter_map(move |point| Some((point.time_ms, *point.bands.get(band)?.get(high)?)));
            ends.collect::<Vec<_>>()
        };
        let mut outline = edge(1);
        outline.extend(edge(0).into_iter().rev());
        let _ = write!(svg, r#"<polygon class="band" points="{}"/>"#, points(&frame, &outline));
    }
    let expected: Vec<(i64, f64)> = of.ahead.iter().map(|it| (it.time_ms, it.mid)).collect();
    let lines = [("was", &of.history), ("expected", &expected)];
    for (class, line) in lines {
        let _ = write!(svg, r#"<polyline class="{class}" points="{}"/>"#, points(&frame, line));
    }
    for value in [frame.low, (frame.low + frame.high) / 2.0, frame.high] {
        let y = frame.y(value);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}"/><text x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            y + 4.0,
            model::text::escaped(&size(value))
        );
    }
    let mut day = frame.from - frame.from.rem_euclid(DAY) + DAY;
    let step = ((frame.to - frame.from) / DAY / 8 + 1) * DAY;
    if let Some(limit) = of.number("limit").map(|it| it.value).filter(|it| *it <= frame.high) {
        let y = frame.y(limit);
        let _ = write!(
            svg,
            r#"<line class="limit" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}"/>"#
        );
    }
    while day < frame.to {
        let date = model::Timestamp(day).to_string();
        let date = date.get(5..10).unwrap_or_default();
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.0}" text-anchor="middle">{date}</text>"#,
            frame.x(day),
            HEIGHT - 6.0
        );
        day += step;
    }
    svg.push_str("</svg>");
    svg
}

fn frame(of: &Resource) -> Option<Frame> {
    let ahead = of.ahead.iter().flat_map(|it| it.bands.last().copied().unwrap_or([it.mid; 2]));
    let values = of.history.iter().map(|(_, value)| *value).chain(ahead);
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    let from = of.history.first()?.0;
    let to =
        of.ahead.last().map_or_else(|| of.history.last().map(|it| it.0), |it| Some(it.time_ms))?;
    // The limit is in the picture where the forecast comes near it.
    let limit = of.number("limit").map_or(high, |it| it.value);
    let high = if limit < high + 0.5 * (high - low) { high.max(limit) } else { high };
    // A flat line lies in the middle; what is never negative has no axis below zero.
    let pad = if high > low { 0.05 * (high - low) } else { high.abs().max(1.0) * 0.05 };
    let floor = if of.history.iter().all(|(_, value)| *value >= 0.0) { 0.0 } else { f64::MIN };
    low.is_finite().then_some(Frame { from, to, low: (low - pad).max(floor), high: high + pad })
}

fn points(frame: &Frame, line: &[(i64, f64)]) -> String {
    let mut text = String::new();
    for (time, value) in line.iter().filter(|(_, value)| value.is_finite()) {
        let _ = write!(text, "{:.1},{:.1} ", frame.x(*time), frame.y(*value));
    }
    text
}
