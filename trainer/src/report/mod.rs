//! Pictures and pages: hand-made SVG in one HTML file, readable offline and without scripts.

mod curves;
mod money;

use std::fmt::Write as _;

use contract::SIZE_COUNT;

pub use curves::{Curve, curve_chart};
pub use money::{Line, money_chart};

/// Fleet and queue at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetPoint {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// Machines by size, booting ones included.
    pub machines: [u32; SIZE_COUNT],
    /// Tasks that wait.
    pub queue: u32,
}

impl From<&twin::TracePoint> for FleetPoint {
    fn from(p: &twin::TracePoint) -> Self {
        Self { t_s: p.t_s, machines: p.fleet.map(|c| c.total()), queue: p.queue }
    }
}

/// Points of a fleet chart at most.
const POINTS_MAX: usize = 2000;

/// Every n-th of the points, so that a page does not become too large.
pub fn thinned(points: Vec<FleetPoint>) -> Vec<FleetPoint> {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    points.into_iter().step_by(every).collect()
}

/// Something that happened at one time, marked in the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// What.
    pub label: String,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const FLEET_TOP: f64 = 24.0;
const FLEET_HEIGHT: f64 = 220.0;
const QUEUE_TOP: f64 = FLEET_TOP + FLEET_HEIGHT + 34.0;
const QUEUE_HEIGHT: f64 = 120.0;
const HEIGHT: f64 = QUEUE_TOP + QUEUE_HEIGHT + 40.0;
/// One colour a size, told apart by people with any colour vision (Okabe and Ito).
const COLOURS: [&str; SIZE_COUNT] = ["#56b4e9", "#009e73", "#e69f00"];
const QUEUE_COLOUR: &str = "#d55e00";

/// A linear map of a value range to pixels.
#[derive(Clone, Copy)]
struct Axis {
    max: f64,
    from_px: f64,
    to_px: f64,
}

impl Axis {
    fn px(self, value: f64) -> f64 {
        self.from_px + (self.to_px - self.from_px) * value / self.max.max(1e-9)
    }
}

/// The fleet by size over time, in cores, stacked, with the queue below it.
pub fn fleet_chart(points: &[FleetPoint], cores: [u32; SIZE_COUNT], marks: &[Mark]) -> String {
    let end_s = points.last().map_or(1.0, |p| p.t_s).max(1.0);
    let x = Axis { max: end_s, from_px: LEFT, to_px: WIDTH - RIGHT };
    let most_cores = points.iter().map(|p| stacked(p, cores)[SIZE_COUNT - 1]).fold(1.0, f64::max);
    let most_queue = points.iter().map(|p| f64::from(p.queue)).fold(1.0, f64::max);
    let fleet = Axis { max: nice(most_cores), from_px: FLEET_TOP + FLEET_HEIGHT, to_px: FLEET_TOP };
    let queue = Axis { max: nice(most_queue), from_px: QUEUE_TOP + QUEUE_HEIGHT, to_px: QUEUE_TOP };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"fleet by size and queue over time\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    );
    grid(&mut svg, x, fleet, "cores");
    grid(&mut svg, x, queue, "tasks waiting");
    for size in (0..SIZE_COUNT).rev() {
        area(&mut svg, points, x, fleet, COLOURS[size], |p| stacked(p, cores)[size]);
    }
    area(&mut svg, points, x, queue, QUEUE_COLOUR, |p| f64::from(p.queue));
    time_ticks(&mut svg, x);
    marks.iter().for_each(|mark| draw_mark(&mut svg, x, mark));
    legend(&mut svg);
    svg + "</svg>"
}

/// Cores of the sizes up to each one.
fn stacked(p: &FleetPoint, cores: [u32; SIZE_COUNT]) -> [f64; SIZE_COUNT] {
    let mut sum = 0;
    std::array::from_fn(|i| {
        sum += p.machines[i] * cores[i];
        f64::from(sum)
    })
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(max: f64) -> f64 {
    let power = 10f64.powf(max.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|n| *n >= max).unwrap_or(max)
}

fn grid(svg: &mut String, x: Axis, y: Axis, label: &str) {
    for i in 0..=4 {
        let value = y.max * f64::from(i) / 4.0;
        let (px, right) = (y.px(value), x.to_px);
        let _ = write!(svg, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{px:.1}\" y2=\"{px:.1}\" stroke=\"#ddd\"/>");
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{value}</text>",
            LEFT - 6.0,
            px + 4.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"600\" fill=\"#333\" \
         stroke=\"#fff\" stroke-width=\"4\" paint-order=\"stroke\">{label}</text>",
        y.to_px - 8.0
    );
}

/// A filled step curve from the axis up.
fn area(svg: &mut String, points: &[FleetPoint], x: Axis, y: Axis, colour: &str, value: impl Fn(&FleetPoint) -> f64) {
    let mut path = format!("M{:.1} {:.1}", x.px(0.0), y.from_px);
    let mut last = 0.0;
    for p in points {
        let _ = write!(path, "H{:.1}", x.px(p.t_s));
        if value(p) != last {
            last = value(p);
            let _ = write!(path, "V{:.1}", y.px(last));
        }
    }
    let _ = write!(svg, "<path d=\"{path}V{:.1}Z\" fill=\"{colour}\"/>", y.from_px);
}

fn time_ticks(svg: &mut String, x: Axis) {
    let minutes = x.max / 60.0;
    let step = [5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 360.0, 1440.0].into_iter().find(|s| minutes / s <= 14.0);
    let step = step.unwrap_or(minutes / 10.0);
    let mut minute = 0.0;
    while minute <= minutes {
        let (px, y) = (x.px(minute * 60.0), QUEUE_TOP + QUEUE_HEIGHT + 18.0);
        let _ = write!(svg, "<text x=\"{px:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#555\">{minute} min</text>");
        minute += step;
    }
}

fn draw_mark(svg: &mut String, x: Axis, mark: &Mark) {
    let (px, bottom) = (x.px(mark.t_s), QUEUE_TOP + QUEUE_HEIGHT);
    let _ = write!(
        svg,
        "<line x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{FLEET_TOP}\" y2=\"{bottom}\" stroke=\"#000\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{:.1}\" y=\"{}\" fill=\"#000\">{}</text>",
        px + 4.0,
        FLEET_TOP + 12.0,
        escape(&mark.label)
    );
}

fn legend(svg: &mut String) {
    for (i, (name, colour)) in ["S", "M", "L"].into_iter().zip(COLOURS).enumerate() {
        let px = WIDTH - RIGHT - 150.0 + 50.0 * i as f64;
        let _ = write!(
            svg,
            "<rect x=\"{px}\" y=\"4\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"15\">{name}</text>",
            px + 17.0
        );
    }
}

/// Text that is safe between tags and in attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A table of text cells; the first column is left-aligned, the others right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = String::from("<table><thead><tr>");
    for cell in head {
        let _ = write!(html, "<th>{}</th>", escape(cell));
    }
    html += "</tr></thead><tbody>";
    for row in rows {
        html += "<tr>";
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html += "</tr>";
    }
    html + "</tbody></table>"
}

/// The same table as text, for a terminal.
pub fn text_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width =
        |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([head[i].chars().count()]).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().enumerate().map(|(i, cell)| match i {
            0 => format!("{cell:<w$}", w = widths[i]),
            _ => format!("{cell:>w$}", w = widths[i]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|s| (*s).to_owned()).collect();
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
    let mut text = line(&head) + "\n" + &rule + "\n";
    for row in rows {
        text += &(line(row) + "\n");
    }
    text
}

/// A whole page.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1200px;margin:2em auto;padding:0 1em}}\
         table{{border-collapse:collapse;margin:1em 0;font-size:13px}}th,td{{padding:.3em .6em;border-bottom:1px solid #ddd;text-align:right}}\
         th:first-child,td:first-child{{text-align:left}}svg{{width:100%;height:auto}}code{{background:#f3f3f3}}\
         </style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_its_columns_up() {
        let rows = [vec!["rule".to_owned(), "20.2".to_owned()], vec!["policy".to_owned(), "9".to_owned()]];
        let expected = "who     cost\n------------\nrule    20.2\npolicy     9\n";
        assert_eq!(text_table(&["who", "cost"], &rows), expected);
    }

    #[test]
    fn the_chart_stacks_cores_and_escapes_its_marks() {
        let points = [
            FleetPoint { t_s: 0.0, machines: [1, 0, 0], queue: 0 },
            FleetPoint { t_s: 60.0, machines: [1, 1, 1], queue: 7 },
        ];
        let svg = fleet_chart(&points, [2, 4, 8], &[Mark { t_s: 30.0, label: "a<b".into() }]);
        assert_eq!(stacked(&points[1], [2, 4, 8]), [2.0, 6.0, 14.0]);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        assert_eq!(svg.matches("<path").count(), 4);
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([1.0, 3.0, 7.0, 14.0, 62.0, 500.0].map(nice), [1.0, 5.0, 10.0, 20.0, 100.0, 500.0]);
    }
}
