//! A series as a small image: mail readers show no SVG. Text stands beside it, for an image has no fonts here.

use store::Points;
use tiny_skia::{Color, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};

const WIDTH: f32 = 640.0;
const HEIGHT: f32 = 200.0;
const EDGE: f32 = 8.0;

/// The points in `from..=to` as a PNG; the time since which something is wrong is shaded. None where there is nothing to draw.
pub(super) fn plot(points: &Points, (from, to): (i64, i64), since: i64) -> Option<Vec<u8>> {
    let finite = || points.times.iter().zip(&points.values).filter(|(_, value)| value.is_finite());
    let low = finite().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = finite().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    if low > high || to <= from {
        return None;
    }
    let spread = if high > low { high - low } else { high.abs().max(1.0) };
    let x = |time: i64| {
        EDGE + (WIDTH - 2.0 * EDGE)
            * ((time - from) as f64 / (to - from) as f64).clamp(0.0, 1.0) as f32
    };
    let y = |value: f64| HEIGHT - EDGE - (HEIGHT - 2.0 * EDGE) * ((value - low) / spread) as f32;
    let mut image = Pixmap::new(WIDTH as u32, HEIGHT as u32)?;
    image.fill(Color::WHITE);
    let paint = |red, green, blue| {
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color_rgba8(red, green, blue, 255);
        paint
    };
    let shade = Rect::from_ltrb(x(since), EDGE, WIDTH - EDGE, HEIGHT - EDGE);
    if let Some(shade) = shade {
        image.fill_rect(shade, &paint(255, 230, 230), Transform::identity(), None);
    }
    let mut frame = PathBuilder::new();
    frame.push_rect(Rect::from_ltrb(EDGE, EDGE, WIDTH - EDGE, HEIGHT - EDGE)?);
    let thin = Stroke { width: 1.0, ..Stroke::default() };
    image.stroke_path(&frame.finish()?, &paint(200, 200, 200), &thin, Transform::identity(), None);
    let mut line = PathBuilder::new();
    let mut drawn = 0;
    // More points than pixels would only cost time.
    let step = (points.len() / 2_000).max(1);
    for (time, value) in finite().step_by(step) {
        match drawn {
            0 => line.move_to(x(*time), y(*value)),
            _ => line.line_to(x(*time), y(*value)),
        }
        drawn += 1;
    }
    if drawn > 1 {
        let bold = Stroke { width: 2.0, ..Stroke::default() };
        image.stroke_path(&line.finish()?, &paint(9, 105, 218), &bold, Transform::identity(), None);
    }
    image.encode_png().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_series_holds_there_is_an_image_or_none() {
        let points = |values: &[f64]| Points {
            times: (0..values.len() as i64).map(|it| it * 1_000).collect(),
            values: values.to_vec(),
        };
        let image = plot(&points(&[1.0, 2.0, f64::NAN, 1.5]), (0, 4_000), 2_000).unwrap();
        assert!(image.starts_with(b"\x89PNG"));
        assert!(plot(&points(&[5.0]), (0, 4_000), 9_000).is_some());
        assert!(plot(&points(&[f64::NAN]), (0, 4_000), 0).is_none());
        assert!(plot(&points(&[1.0, 2.0]), (4_000, 4_000), 0).is_none());
        let _ = plot(&points(&[f64::MAX, f64::MIN]), (0, 4_000), 0);
    }
}
