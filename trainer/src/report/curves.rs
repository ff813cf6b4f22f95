//! Curves over training steps.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::{escape, nice};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
const COLOURS: [&str; 4] = ["#56b4e9", "#d55e00", "#009e73", "#cc79a7"];

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it shows.
    pub name: &'static str,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Some curves in one chart. The vertical axis spans the values but for the highest twentieth, so that a bad start does
/// not flatten the rest.
pub fn curve_chart(y_label: &str, x_label: &str, curves: &[Curve]) -> String {
    let values = || curves.iter().flat_map(|c| &c.points);
    let Some((low, high)) = span(values().map(|p| p.1).collect()) else { return "<p>no curve yet</p>".into() };
    let x_max = values().map(|p| p.0).fold(1.0, f64::max);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / x_max;
    let y = |value: f64| {
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\">",
        escape(y_label)
    );
    for i in 0..=4 {
        let value = low + (high - low) * f64::from(i) / 4.0;
        let (px, right) = (y(value), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{px:.1}\" y2=\"{px:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{value:.2}</text>",
            LEFT - 6.0,
            px + 4.0
        );
    }
    let step = nice(x_max / 8.0);
    for i in 0..=((x_max / step) as u32) {
        let value = f64::from(i) * step;
        let (px, bottom) = (x(value), HEIGHT - BOTTOM + 18.0);
        let _ = write!(
            svg,
            "<text x=\"{px:.1}\" y=\"{bottom}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
            HumanCount(value as u64)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"16\" font-weight=\"600\" fill=\"#333\">{}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#333\">{}</text>",
        escape(y_label),
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        escape(x_label)
    );
    for (i, curve) in curves.iter().enumerate() {
        line(&mut svg, curve, COLOURS[i % COLOURS.len()], i, &x, &y);
    }
    svg + "</svg>"
}

fn line(svg: &mut String, curve: &Curve, colour: &str, i: usize, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
    let points: String = curve.points.iter().map(|p| format!("{:.1},{:.1} ", x(p.0), y(p.1))).collect();
    let at = WIDTH - RIGHT - 250.0 * (i as f64 + 1.0);
    let _ = write!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\
         <rect x=\"{at}\" y=\"8\" width=\"12\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"15\">{}</text>",
        at + 18.0,
        escape(curve.name)
    );
}

/// The lowest value, and the one that a twentieth is above; none without values.
fn span(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_unstable_by(f64::total_cmp);
    let low = *values.first()?;
    let high = values[(values.len() - 1) * 19 / 20];
    Some((low, if high > low { high } else { low + 1.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_start_does_not_flatten_the_rest() {
        let mut points: Vec<(f64, f64)> = (0..40).map(|i| (f64::from(i), 20.0 + f64::from(i) / 100.0)).collect();
        points[0].1 = 500.0;
        assert_eq!(span(points.iter().map(|p| p.1).collect()), Some((20.01, 20.38)));
        let svg = curve_chart("dollars", "steps", &[Curve { name: "a<b", points }]);
        assert!(svg.contains("a&lt;b") && svg.contains("<polyline"));
        assert!(curve_chart("dollars", "steps", &[]).contains("no curve yet"));
    }
}
