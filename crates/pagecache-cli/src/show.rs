//! How numbers and tables are shown: aligned columns, bytes, times and counts that people can read.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// Prints a line. Where nobody reads on, there is nothing left to do about it.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
}

/// Rows of text in columns; the first column is left-aligned, all others right-aligned.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new<const N: usize>(heads: [&str; N]) -> Table {
        Table { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The table, each line indented by two.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (nth, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(line, "  {cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
            if nth == 0 {
                let rule: usize = widths.iter().map(|width| width + 2).sum::<usize>().saturating_sub(2);
                let _ = writeln!(out, "  {}", "-".repeat(rule));
            }
        }
        out
    }
}

/// Bytes, to three digits.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            return match unit {
                "B" => format!("{count} B"),
                _ if value < 10.0 => format!("{value:.2} {unit}"),
                _ if value < 100.0 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.2} TiB")
}

/// A count with its thousands apart.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with the word for what is counted, in its number.
pub(crate) fn many(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A time, to three digits.
pub(crate) fn time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match nanos {
        nanos if nanos < 1e3 => return format!("{nanos:.0} ns"),
        nanos if nanos < 1e6 => (nanos / 1e3, "us"),
        nanos if nanos < 1e9 => (nanos / 1e6, "ms"),
        nanos => (nanos / 1e9, "s"),
    };
    if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A share, in percent.
pub(crate) fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!((bytes(999), bytes(1536), bytes(8 << 20)), ("999 B".into(), "1.50 KiB".into(), "8.00 MiB".into()));
        assert_eq!(time(Duration::from_nanos(1500)), "1.50 us");
        assert_eq!((many(1, "word"), many(2, "word")), ("1 word".into(), "2 words".into()));
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["what", "bytes"]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "10000".into()]);
        assert_eq!(table.render(), "  what    bytes\n  -------------\n  a           1\n  longer  10000\n");
    }
}
