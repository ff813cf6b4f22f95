//! Dollars by policy as bars: machines and waiting, the interval of the total, and the bounds.

use std::fmt::Write as _;

use backtest::play::Standing;

use super::{QUEUE_COLOUR, escape, nice};

const WIDTH: f64 = 960.0;
const NAMES: f64 = 300.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 28.0;
const TOP: f64 = 30.0;
const MACHINES_COLOUR: &str = "#0072b2";

/// A line across all bars: what nobody can beat.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is.
    pub label: String,
    /// Where.
    pub usd: f64,
}

/// One bar a policy, in the order given. Bars beyond three times the cheapest are cut off and say so, so that one bad
/// policy does not hide the others' differences.
pub fn money_chart(standings: &[Standing], lines: &[Line]) -> String {
    let cheapest = standings.iter().map(|s| s.total_usd.mean).fold(f64::INFINITY, f64::min);
    let dearest = standings.iter().map(|s| s.total_usd.high).fold(0.0, f64::max);
    let max = nice(dearest.min(3.0 * cheapest).max(1e-9));
    let px = |usd: f64| NAMES + (WIDTH - NAMES - RIGHT) * (usd / max).clamp(0.0, 1.0);
    let height = TOP + ROW * standings.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"cost of an episode by policy\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    );
    legend(&mut svg);
    for (i, standing) in standings.iter().enumerate() {
        bar(&mut svg, standing, TOP + ROW * i as f64, &px);
    }
    for line in lines {
        let (x, bottom) = (px(line.usd), height - 20.0);
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#000\" stroke-dasharray=\"4 3\">\
             <title>{} ${:.2}</title></line>",
            escape(&line.label),
            line.usd
        );
    }
    svg + "</svg>"
}

fn bar(svg: &mut String, standing: &Standing, y: f64, px: &impl Fn(f64) -> f64) {
    let (vm, total) = (standing.vm_usd.mean, standing.total_usd);
    let rect = |svg: &mut String, from: f64, to: f64, colour: &str| {
        let (x, width) = (px(from), px(to) - px(from));
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\" fill=\"{colour}\"/>",
            y + 4.0
        );
    };
    rect(svg, 0.0, vm, MACHINES_COLOUR);
    rect(svg, vm, total.mean, QUEUE_COLOUR);
    let middle = y + 13.0;
    let cut = if px(total.mean) < px(f64::MAX) { "" } else { " (cut)" };
    let _ = write!(
        svg,
        "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#222\" stroke-width=\"2\"/>\
         <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"{:.1}\" y=\"{:.1}\">${:.2}{cut}</text>",
        px(total.low),
        px(total.high),
        NAMES - 8.0,
        y + 17.0,
        escape(&standing.policy),
        px(total.mean.max(total.high)) + 6.0,
        y + 17.0,
        total.mean
    );
}

fn legend(svg: &mut String) {
    for (i, (name, colour)) in [("machines", MACHINES_COLOUR), ("waiting", QUEUE_COLOUR)].into_iter().enumerate() {
        let x = NAMES + 100.0 * i as f64;
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"6\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"17\">{name}</text>",
            x + 17.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"17\" fill=\"#555\">dark line: 95 % interval · dashed: bounds</text>",
        NAMES + 200.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use backtest::play::{outcomes, standing};
    use backtest::rules::Rule;
    use std::sync::Arc;

    #[test]
    fn a_bar_that_would_hide_the_others_is_cut_and_says_so() {
        let spec = Arc::new(twin::EnvSpec::published());
        let line = |rule: Rule| {
            let played = outcomes(&rule, &spec, &[0]).unwrap();
            let usd: Vec<f64> = played.iter().map(|o| o.total_usd).collect();
            standing(format!("{rule}<"), &played, &usd)
        };
        let standings = [line(Rule::Nothing), line(Rule::Static([1, 1, 7]))];
        let svg = money_chart(&standings, &[Line { label: "bound".into(), usd: 19.42 }]);
        assert!(svg.contains("$247.53 (cut)") && svg.contains("$22.55<"), "{svg}");
        assert!(svg.contains("rule:nothing&lt;") && svg.contains("bound $19.42"));
        assert_eq!(svg.matches("<rect").count(), 2 + 2 * 2);
    }
}
