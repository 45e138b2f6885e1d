//! The report as a person reads it.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::Report;
use crate::works::{Outcome, Side};

fn cells(name: &str, side: &Side) -> Vec<String> {
    let some = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut cells = vec![String::new(), name.to_owned(), format!("{:.0}", side.rate)];
    cells.extend([side.p50_ms, side.p99_ms].map(some));
    cells.extend([format!("{:.0}", side.cpu_us), some(side.written), String::new()]);
    cells
}

fn ratios(ours: &Side, theirs: &Side) -> Vec<String> {
    let ratio = |one: f64, other: f64| format!("{:.2} x", one / other);
    let some = |one: Option<f64>, other: Option<f64>| {
        one.zip(other).map_or_else(|| "-".to_owned(), |(one, other)| ratio(one, other))
    };
    let mut cells = vec![String::new(), "ratio".to_owned(), ratio(ours.rate, theirs.rate)];
    cells.extend([some(ours.p50_ms, theirs.p50_ms), some(ours.p99_ms, theirs.p99_ms)]);
    cells.extend([ratio(ours.cpu_us, theirs.cpu_us), some(ours.written, theirs.written)]);
    cells
}

fn works(works: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["work", "", "per second", "p50 ms", "p99 ms", "CPU µs each", "written", "target"]);
    for Outcome { work, dinhba, etcd, target } in works {
        let mut first = cells("dinhba", dinhba);
        first[0] = (*work).to_owned();
        table.add_row(first);
        if let Some(etcd) = etcd {
            table.add_row(cells("etcd", etcd));
            let mut last = ratios(dinhba, etcd);
            last.push((*target).to_owned());
            table.add_row(last);
        }
    }
    for column in 2..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Tables and what their columns mean.
pub fn human(report: &Report) -> String {
    let mut text = String::new();
    if !report.works.is_empty() {
        let about = "medians of the rounds; CPU of all server processes; written: bytes per server per byte of values";
        text += &format!("{}\n{about}\n", works(&report.works));
    }
    if !report.alone.is_empty() {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header(["alone", "", "", "target"]);
        for figure in &report.alone {
            table.add_row([figure.name, &figure.text(), figure.unit, figure.target]);
        }
        text += &format!("{table}\n");
    }
    text
}
