//! The latency of a load over its time, as an SVG image.

use crate::results::{Results, Sample};
use std::fmt::Write as _;

/// The load of one plot.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// The heading, for example the name of the operation.
    pub title: &'a str,
    /// The requests.
    pub results: &'a Results,
}

/// One line of a plot.
struct Curve {
    name: &'static str,
    color: &'static str,
    /// The share of requests that are at most as slow.
    share: f64,
}

const CURVES: [Curve; 3] = [
    Curve { name: "slowest", color: "#d7301f", share: 1.0 },
    Curve { name: "99 %", color: "#fc8d59", share: 0.99 },
    Curve { name: "median", color: "#2c7fb8", share: 0.5 },
];

/// Parts of the time; each has one point on each curve.
const PARTS: usize = 100;
/// The size of an image, and the place of the plot in it.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 780.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 270.0;
/// Marks on the axis of time.
const MARKS: u32 = 5;

/// The plots, one below the other.
#[must_use]
pub fn svg(panels: &[Panel<'_>]) -> String {
    let height = panels.iter().map(|_| HEIGHT).sum::<f64>();
    let mut image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n"
    );
    let mut offset = 0.0;
    for panel in panels {
        _ = write!(image, "<g transform=\"translate(0 {offset})\">\n{}</g>\n", plot(panel));
        offset += HEIGHT;
    }
    image.push_str("</svg>\n");
    image
}

/// The seconds of both axes.
struct Scale {
    /// The end of the axis of time.
    end: f64,
    /// The powers of ten at the ends of the axis of latency, which is logarithmic.
    low: f64,
    high: f64,
}

impl Scale {
    fn of(samples: &[Sample]) -> Scale {
        /// No request is faster than the clock can tell.
        const SHORTEST: f64 = 1e-6;
        let took = samples.iter().map(|sample| sample.took.as_secs_f64().max(SHORTEST));
        let (fastest, slowest) = took
            .fold((f64::MAX, SHORTEST), |(least, most), took| (least.min(took), most.max(took)));
        let low = fastest.min(slowest).log10().floor();
        let high = slowest.log10().ceil().max(low + 1.0);
        let end = samples.iter().map(|sample| sample.at.as_secs_f64()).fold(SHORTEST, f64::max);
        Scale { end, low, high }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.end * (RIGHT - LEFT)
    }

    fn y(&self, seconds: f64) -> f64 {
        let share = (seconds.log10() - self.low) / (self.high - self.low);
        BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP)
    }

    /// The grid, with the numbers at both axes.
    fn axes(&self) -> String {
        let mut text = String::new();
        let mut exponent = self.low;
        while exponent <= self.high {
            let seconds = 10_f64.powf(exponent);
            let y = self.y(seconds);
            _ = writeln!(
                text,
                "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                shown(seconds)
            );
            exponent += 1.0;
        }
        for mark in 0..=MARKS {
            let seconds = self.end * f64::from(mark) / f64::from(MARKS);
            let (x, y) = (self.x(seconds), BOTTOM + 18.0);
            _ = writeln!(
                text,
                "<path d=\"M{x:.1} {TOP}V{BOTTOM}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{y}\" \
                 text-anchor=\"middle\">{seconds:.1} s</text>"
            );
        }
        text
    }
}

/// A power of ten in seconds.
fn shown(seconds: f64) -> String {
    let (factor, unit) = match seconds {
        ..1e-3 => (1e6, "µs"),
        1e-3..1.0 => (1e3, "ms"),
        _ => (1.0, "s"),
    };
    format!("{:.0} {unit}", seconds * factor)
}

fn plot(panel: &Panel<'_>) -> String {
    let samples = &panel.results.samples;
    let mut text = format!(
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}: {} requests</text>\n",
        escaped(panel.title),
        samples.len()
    );
    if samples.is_empty() {
        return text;
    }
    let scale = Scale::of(samples);
    text.push_str(&scale.axes());
    let parts = parts(samples, scale.end);
    let mut x = RIGHT;
    for Curve { name, color, share } in &CURVES {
        let points: String = parts
            .iter()
            .map(|(at, times)| {
                format!("{:.1},{:.1} ", scale.x(*at), scale.y(at_share(times, *share)))
            })
            .collect();
        _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>\
             <text x=\"{x}\" y=\"24\" text-anchor=\"end\" fill=\"{color}\">{name}</text>",
            points.trim_end()
        );
        x -= 70.0;
    }
    _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">time since the start</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 38.0
    );
    text
}

/// The latencies of the requests in each part of the time, in ascending order, with the part's
/// middle. Parts without requests are left out.
fn parts(samples: &[Sample], end: f64) -> Vec<(f64, Vec<f64>)> {
    let mut parts = vec![Vec::new(); PARTS];
    #[expect(clippy::cast_precision_loss, reason = "there are few parts")]
    let length = end / PARTS as f64;
    for sample in samples {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the quotient is between 0 and the number of parts"
        )]
        let part = (sample.at.as_secs_f64() / length) as usize;
        parts[part.min(PARTS - 1)].push(sample.took.as_secs_f64());
    }
    let mut found = Vec::new();
    for (number, mut times) in (0_u32..).zip(parts) {
        if !times.is_empty() {
            times.sort_by(f64::total_cmp);
            found.push(((f64::from(number) + 0.5) * length, times));
        }
    }
    found
}

/// The time that this share of the times does not exceed.
fn at_share(times: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no count comes near 2^53, and the product is not negative"
    )]
    let rank = (times.len() as f64 * share).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Start;
    use std::time::Duration;

    #[test]
    fn curves_are_the_shares_of_each_part() {
        let start = Start::now();
        let mut results = Results::since(start);
        // In the first part of the 10 s, three requests of 1, 10 and 100 ms; in the last one, one.
        for (at, ms) in [(0, 100), (1, 1), (2, 10), (10_000, 10)] {
            results.add(start.instant + Duration::from_millis(at), Ok(Duration::from_millis(ms)));
        }
        let image = svg(&[Panel { title: "a<b", results: &results }]);
        assert!(image.contains("a&lt;b: 4 requests"), "{image}");
        // 1 ms is at the bottom, 100 ms at the top.
        let curve = |color: &str| {
            let end = format!("\" fill=\"none\" stroke=\"{color}\"");
            let (points, _) = image.split_once(&end).unwrap();
            points.rsplit_once('"').unwrap().1.to_string()
        };
        assert_eq!(curve("#d7301f"), "73.5,40.0 776.5,155.0");
        assert_eq!(curve("#2c7fb8"), "73.5,155.0 776.5,155.0");
        for mark in [">1 ms<", ">10 ms<", ">100 ms<", ">10.0 s<"] {
            assert!(image.contains(mark), "{mark}: {image}");
        }
    }

    #[test]
    fn plots_stand_one_below_the_other_and_may_be_empty() {
        let results = Results::since(Start::now());
        let panel = Panel { title: "put", results: &results };
        let image = svg(&[panel, panel]);
        assert!(image.contains("height=\"640\"") && image.contains("translate(0 320)"));
        assert!(!image.contains("polyline"));
    }
}
