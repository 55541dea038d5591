//! Line charts as SVG, with logarithmic axes.

use std::fmt::Write;

/// An axis: what it shows, and how.
pub struct Axis {
    /// What it shows.
    pub title: &'static str,
    /// Each step along it is so many times as much.
    pub base: f64,
    /// How a value is written beside it.
    pub label: fn(f64) -> String,
}

/// A line.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its points, which are joined in this order.
    pub points: Vec<(f64, f64)>,
    /// Drawn broken: a peer.
    pub peer: bool,
}

/// A chart.
pub struct Chart {
    /// What stands above it.
    pub title: &'static str,
    /// From left to right.
    pub x: Axis,
    /// From the bottom up.
    pub y: Axis,
    /// What it shows, with a legend; up to six.
    pub lines: Vec<Line>,
    /// Whether each point gets a mark.
    pub marks: bool,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 58.0;
/// Told apart by those who do not tell red from green, too (Okabe and Ito's palette).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// An axis with its range, on the drawing.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    base: f64,
}

impl Scale {
    /// From `from` to `to` on the drawing, with room for all values.
    fn new(base: f64, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Scale {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        // Rounding does not cost a step more.
        let low = base.powf((low.log(base) + 1e-9).floor());
        let high = base.powf((high.log(base) - 1e-9).ceil()).max(low * base);
        Scale { low, high, from, to, base }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        let ticks = std::iter::successors(Some(self.low), |last| Some(last * self.base));
        ticks.take_while(|tick| *tick < self.high * 1.000_001).collect()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Chart {
    /// The drawing.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Scale::new(self.x.base, points().map(|p| p.0), LEFT, WIDTH - RIGHT);
        let y = Scale::new(self.y.base, points().map(|p| p.1), HEIGHT - BOTTOM, TOP);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, text: &str| {
            let text = escaped(text);
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{text}</text>"
            )
            .expect("a string takes everything");
        };
        text(LEFT, 24.0, "start", " font-size=\"16\" font-weight=\"bold\"", self.title);
        text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0, "middle", "", self.x.title);
        let (at, turn) =
            (18.0, format!(" transform=\"rotate(-90 18 {:.1})\"", (TOP + HEIGHT - BOTTOM) / 2.0));
        text(at, (TOP + HEIGHT - BOTTOM) / 2.0, "middle", &turn, self.y.title);
        for tick in x.ticks() {
            text(x.place(tick), HEIGHT - BOTTOM + 18.0, "middle", "", &(self.x.label)(tick));
        }
        for tick in y.ticks() {
            text(LEFT - 8.0, y.place(tick) + 4.0, "end", "", &(self.y.label)(tick));
        }
        let mut path = |points: &str, style: &str| {
            writeln!(out, "<polyline points=\"{points}\" fill=\"none\" {style}/>")
                .expect("as above");
        };
        for tick in x.ticks() {
            let at = x.place(tick);
            path(&format!("{at:.1},{TOP} {at:.1},{:.1}", HEIGHT - BOTTOM), "stroke=\"#eee\"");
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            path(&format!("{LEFT},{at:.1} {:.1},{at:.1}", WIDTH - RIGHT), "stroke=\"#ddd\"");
        }
        let mut legend = LEFT;
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let dashes = if line.peer { " stroke-dasharray=\"6 4\"" } else { "" };
            let style =
                format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dashes}");
            let places: Vec<_> = line.points.iter().map(|p| (x.place(p.0), y.place(p.1))).collect();
            let all: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            writeln!(out, "<polyline points=\"{}\" fill=\"none\" {style}/>", all.join(" "))
                .expect("as above");
            for (x, y) in places.iter().filter(|_| self.marks) {
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>")
                    .expect("as above");
            }
            let end = legend + 22.0;
            writeln!(
                out,
                "<polyline points=\"{legend},50 {end},50\" fill=\"none\" {style}/>\n\
                 <text x=\"{}\" y=\"54\">{}</text>",
                end + 6.0,
                escaped(&line.name)
            )
            .expect("as above");
            // About as wide as the letters are.
            legend = end + 24.0 + 6.4 * line.name.chars().count() as f64;
        }
        out.push_str("</svg>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_whole_steps() {
        let ticks =
            |base, values: &[f64]| Scale::new(base, values.iter().copied(), 0.0, 1.0).ticks();
        assert_eq!(ticks(10.0, &[20.0, 900.0]), [10.0, 100.0, 1000.0]);
        assert_eq!(ticks(2.0, &[4.0, 8.0]), [4.0, 8.0]);
        assert_eq!(ticks(10.0, &[10.0]), [10.0, 100.0]);
    }

    #[test]
    fn values_lie_between_the_ends() {
        let scale = Scale::new(2.0, [32.0, 512.0].into_iter(), 100.0, 500.0);
        assert!((scale.place(32.0) - 100.0).abs() < 1e-6);
        assert!((scale.place(128.0) - 300.0).abs() < 1e-6);
        assert!((scale.place(512.0) - 500.0).abs() < 1e-6);
    }

    #[test]
    fn names_are_escaped() {
        let axis = || Axis { title: "a < b", base: 10.0, label: |v| v.to_string() };
        let lines = vec![Line { name: "x & y".into(), points: vec![(1.0, 1.0)], peer: true }];
        let svg = Chart { title: "t", x: axis(), y: axis(), lines, marks: true }.svg();
        assert!(svg.contains("x &amp; y") && svg.contains("a &lt; b") && !svg.contains("NaN"));
    }
}
