//! Charts of a comparison, one for each kind of measurement.
//!
//! Input: results. Output: SVG files: a line for each measurement, on which a dot is the median and
//! a bar goes from the least to the most. The scale is logarithmic: equal ratios are equally long.
//!
//! Source: Cleveland and McGill, "Graphical Perception" (1984), for dots on a common scale.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use skein_tests::System;

use crate::metrics::Results;
use crate::statistics::Spread;
use crate::{Outcome, table};

/// What a chart is called, and the unit of all its measurements.
const CHARTS: [(&str, &str, &str); 4] = [
    ("rate", "records/s", "Records per second: more is better"),
    (
        "cpu",
        "s/GiB",
        "Broker CPU, seconds per GiB of values: less is better",
    ),
    ("time", "ms", "Latencies and times, ms: less is better"),
    ("memory", "MB", "Resident memory, MB: less is better"),
];
const WIDTH: u32 = 960;
const LABELS_WIDTH: u32 = 380;
const LINE_HEIGHT: u32 = 28;
/// Title and legend above, numbers below.
const REST_HEIGHT: u32 = 120;
const FONT: (&str, i32) = ("sans-serif", 13);
const TITLE_FONT: (&str, i32) = ("sans-serif", 17);
const DOT_RADIUS: i32 = 5;
const LEGEND_WIDTH: i32 = 110;
const LEGEND_Y: i32 = 28;
/// Of the numbers below, about.
const SCALE_LABELS: usize = 6;
/// How far the two systems' marks lie from the middle of their line, in lines.
const APART: f64 = 0.14;
/// Room beside the least and the most, as a factor.
const MARGIN: f64 = 1.3;
const GRID: RGBColor = RGBColor(225, 225, 225);
const SYSTEMS: [(System, &str, RGBColor); 2] = [
    (System::Kafka, "Kafka 4.1.1", RGBColor(150, 150, 150)),
    (System::Skein, "Skein", RGBColor(0, 110, 190)),
];

/// A line of a chart.
struct Line {
    label: String,
    spreads: [Option<Spread>; 2],
}

/// Writes every chart that has something to show into `directory`, and returns their paths.
pub(crate) fn write(results: &Results, directory: &Path) -> Outcome<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut written = Vec::new();
    for (name, unit, title) in CHARTS {
        let lines = lines(results, unit);
        if lines.is_empty() {
            continue;
        }
        let path = directory.join(format!("{name}.svg"));
        draw(&path, title, &lines).map_err(|error| format!("{}: {error}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

/// What was measured in `unit`, in the order of the table.
fn lines(results: &Results, unit: &str) -> Vec<Line> {
    let mut heading = String::new();
    let mut lines = Vec::new();
    for (name, of, spreads) in results.spreads() {
        let label = match name.strip_prefix("  ") {
            Some(detail) => format!("{heading}: {}", detail.trim()),
            None => {
                // The first line of a block of latencies names what all of them are of.
                heading = name.trim_end_matches(", p50").to_owned();
                name.clone()
            }
        };
        let shows = spreads.iter().flatten().any(|spread| spread.median > 0.0);
        if of == unit && shows {
            lines.push(Line { label, spreads });
        }
    }
    lines
}

fn draw(path: &Path, title: &str, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(lines.len())?;
    let height = count * LINE_HEIGHT + REST_HEIGHT;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, TITLE_FONT)
        .margin(16)
        .x_label_area_size(28)
        .y_label_area_size(LABELS_WIDTH)
        .build_cartesian_2d(extent(lines).log_scale(), f64::from(count)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .label_style(FONT)
        .x_labels(SCALE_LABELS)
        .x_label_formatter(&|value| table::number(*value))
        .draw()?;
    for (at, line) in (0..count).zip(lines) {
        let middle = (extent(lines).start, f64::from(at) + 0.5);
        let place = (
            i32::try_from(LABELS_WIDTH)? + 8,
            chart.backend_coord(&middle).1,
        );
        root.draw(&Text::new(line.label.clone(), place, text(HPos::Right)))?;
    }
    for (number, (_, name, colour)) in SYSTEMS.into_iter().enumerate() {
        let off = if number == 0 { -APART } else { APART };
        for (at, line) in (0..count).zip(lines) {
            let spread = line.spreads[number].as_ref();
            let Some(spread) = spread.filter(|spread| spread.min > 0.0) else {
                continue;
            };
            let y = f64::from(at) + 0.5 + off;
            let ends = vec![(spread.min, y), (spread.max, y)];
            let bar = PathElement::new(ends, colour.stroke_width(2));
            let dot = Circle::new((spread.median, y), DOT_RADIUS, colour.filled());
            chart.draw_series([bar])?;
            chart.draw_series([dot])?;
        }
        // Beside the title, where no mark can be.
        let x = i32::try_from(WIDTH)? - LEGEND_WIDTH * i32::try_from(SYSTEMS.len() - number)?;
        root.draw(&Circle::new((x, LEGEND_Y), DOT_RADIUS, colour.filled()))?;
        let beside = (x + 2 * DOT_RADIUS, LEGEND_Y);
        root.draw(&Text::new(name, beside, text(HPos::Left)))?;
    }
    root.present()?;
    Ok(())
}

/// Of text that begins or ends at its place, in the middle of its height.
fn text(horizontally: HPos) -> TextStyle<'static> {
    TextStyle::from(FONT.into_font()).pos(Pos::new(horizontally, VPos::Center))
}

/// From the least of all to the most.
fn extent(lines: &[Line]) -> Range<f64> {
    let spreads = lines.iter().flat_map(|line| line.spreads.iter().flatten());
    let spreads = spreads.filter(|spread| spread.min > 0.0);
    let (mut min, mut max) = (f64::INFINITY, 0.0_f64);
    for spread in spreads {
        min = min.min(spread.min);
        max = max.max(spread.max);
    }
    min / MARGIN..max * MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Load;
    use crate::metrics::{Metric, OfProduce};

    #[test]
    fn a_chart_has_a_line_for_each_measurement_of_its_unit() {
        let mut results = Results::default();
        for (metric, kafka, skein) in [
            (
                Metric::Produce(Load::plain(100, 16_384), OfProduce::Rate),
                1e6,
                2e6,
            ),
            (
                Metric::Produce(Load::plain(100, 16_384), OfProduce::Cpu),
                3.0,
                1.0,
            ),
            (Metric::MemoryIdle, 400.0, 39.0),
        ] {
            results.add(metric, System::Kafka, kafka);
            results.add(metric, System::Skein, skein);
        }
        let directory = tempfile::tempdir().unwrap();
        let written = write(&results, directory.path()).unwrap();
        let names: Vec<_> = written
            .iter()
            .map(|path| path.file_name().unwrap())
            .collect();
        assert_eq!(names, ["rate.svg", "cpu.svg", "memory.svg"]);
        let cpu = fs::read_to_string(&written[1]).unwrap();
        assert!(cpu.contains("produce 100 B, batches up to 16 KiB: broker CPU"));
        // A mark for each system, and one in the legend.
        assert_eq!(cpu.matches("<circle").count(), 4, "{cpu}");
    }
}
