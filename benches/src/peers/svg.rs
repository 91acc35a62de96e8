//! Bar charts as SVG, a bar for each peer, ours in a colour of its own.

use super::load::Workload;
use super::report::{GROUPS, number};
use super::results::Results;
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
/// Where bars begin, and how long the longest is. What is left holds the figures.
const LEFT: f64 = 230.0;
const LONGEST: f64 = 420.0;
const LINE: f64 = 24.0;
const OURS: &str = "#c2410c";
const THEIRS: &str = "#64748b";

/// A bar of a chart.
#[derive(Debug)]
pub struct Bar {
    /// The name to its left.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// The smallest and the largest of the rounds, drawn as a line.
    pub spread: [f64; 2],
    /// Whether it is ours.
    pub ours: bool,
}

/// Bars under a heading.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// What stands under it.
    pub bars: Vec<Bar>,
}

/// The chart of a workload's metric; `None` where nothing was measured.
#[must_use]
pub fn chart(results: &Results, workload: Workload, metric: usize) -> Option<String> {
    let sections = GROUPS.into_iter().filter_map(|group| {
        let bars = results.measured(group, workload).filter_map(|peer| {
            let figures = results.summary(peer, workload, metric)?;
            let spread = [figures.min, figures.max];
            Some(Bar {
                label: peer.title.to_owned(),
                value: figures.median,
                spread,
                ours: peer.title.starts_with("vswitch"),
            })
        });
        let bars: Vec<Bar> = bars.collect();
        (!bars.is_empty()).then(|| Section { title: group.title().to_owned(), bars })
    });
    let (sections, about) = (sections.collect::<Vec<_>>(), &workload.metrics()[metric]);
    let title = format!("{}: {}, {}", workload.title(), about.title, about.unit);
    (!sections.is_empty()).then(|| draw(&title, &sections))
}

/// Draws the sections one below the other, on one scale.
fn draw(title: &str, sections: &[Section]) -> String {
    let lines: usize = sections.iter().map(|section| section.bars.len() + 1).sum();
    let height = LINE * (lines as f64 + 2.0);
    let largest = sections.iter().flat_map(|s| &s.bars).map(|bar| bar.spread[1]).fold(0.0, f64::max);
    let scale = if largest > 0.0 { LONGEST / largest } else { 0.0 };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut y = LINE;
    text(&mut svg, 12.0, y, "font-weight=\"bold\" font-size=\"15\"", title);
    for section in sections {
        y += LINE;
        text(&mut svg, 12.0, y, "fill=\"#475569\" font-style=\"italic\"", &section.title);
        for bar in &section.bars {
            y += LINE;
            draw_bar(&mut svg, y, scale, bar);
        }
    }
    svg + "</svg>\n"
}

/// A bar whose label stands on the line `y`.
fn draw_bar(svg: &mut String, y: f64, scale: f64, bar: &Bar) {
    let (top, length) = (y - 13.0, bar.value * scale);
    let (colour, weight) = if bar.ours { (OURS, "font-weight=\"bold\"") } else { (THEIRS, "") };
    text(svg, LEFT - 8.0, y, &format!("text-anchor=\"end\" {weight}"), &bar.label);
    let _ = writeln!(svg, "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"17\" fill=\"{colour}\"/>");
    let [from, to] = bar.spread.map(|value| LEFT + value * scale);
    let middle = top + 8.5;
    let _ = writeln!(svg, "<path d=\"M{from:.1} {middle}H{to:.1}\" stroke=\"black\" stroke-width=\"1.5\"/>");
    text(svg, to + 8.0, y, weight, &number(bar.value));
}

/// Words whose line ends or begins at `x`.
fn text(svg: &mut String, x: f64, y: f64, attributes: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" {attributes}>{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn bars_are_to_scale_and_ours_stands_out() {
        let svg = chart(&results(), Workload::Packets, 0).expect("a chart");
        let widths: Vec<&str> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x="))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next())
            .collect();
        // 0.92 Mpps, the largest of all rounds, is 420 wide.
        assert_eq!(widths, ["91.3", "410.9", "319.6", "45.7"]);
        assert_eq!((svg.matches(OURS).count(), svg.matches(THEIRS).count()), (1, 3));
        assert!(svg.contains(">two pods on one host</text>") && svg.ends_with("</svg>\n"));
        assert_eq!(chart(&results(), Workload::Idle, 0), None);
    }

    #[test]
    fn words_cannot_break_the_file_and_nothing_measured_is_drawn_empty() {
        let bar = Bar { label: "<a & b>".to_owned(), value: 0.0, spread: [0.0; 2], ours: false };
        let svg = draw("t", &[Section { title: "s".to_owned(), bars: vec![bar] }]);
        assert!(svg.contains(">&lt;a &amp; b&gt;</text>"), "{svg}");
        assert!(svg.contains("width=\"0.0\"") && !svg.contains("NaN"), "{svg}");
    }
}
