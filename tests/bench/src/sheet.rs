//! The figures, and how they become tables.

use std::fmt::Write;

/// All that was measured, in the order in which it first came.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    title: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    case: String,
    system: &'static str,
    /// Column and one value per round.
    values: Vec<(&'static str, Vec<f64>)>,
}

impl Sheet {
    /// Notes a value of one round.
    pub(crate) fn add(
        &mut self,
        title: &'static str,
        case: &str,
        system: &'static str,
        column: &'static str,
        value: f64,
    ) {
        let section = position_or_push(
            &mut self.sections,
            |section| section.title == title,
            || Section {
                title,
                columns: Vec::new(),
                rows: Vec::new(),
            },
        );
        if !section.columns.contains(&column) {
            section.columns.push(column);
        }
        let row = position_or_push(
            &mut section.rows,
            |row| row.case == case && row.system == system,
            || Row {
                case: case.to_owned(),
                system,
                values: Vec::new(),
            },
        );
        let (_, values) = position_or_push(
            &mut row.values,
            |(name, _)| *name == column,
            || (column, Vec::new()),
        );
        values.push(value);
    }

    /// The median over the rounds.
    pub(crate) fn median(
        &self,
        title: &str,
        case: &str,
        system: &str,
        column: &str,
    ) -> Option<f64> {
        self.values(title, case, system, column).map(median)
    }

    /// The median of how many times the other's value one has: what they measured one after the other is compared, so that what
    /// disturbed both counts less.
    pub(crate) fn ratio(
        &self,
        title: &str,
        case: &str,
        [one, other]: [&str; 2],
        column: &str,
    ) -> Option<f64> {
        let (one, other) = (
            self.values(title, case, one, column)?,
            self.values(title, case, other, column)?,
        );
        let ratios: Vec<f64> = one
            .iter()
            .zip(other)
            .map(|(one, other)| one / other)
            .collect();
        Some(median(&ratios))
    }

    fn values(&self, title: &str, case: &str, system: &str, column: &str) -> Option<&[f64]> {
        let section = self
            .sections
            .iter()
            .find(|section| section.title == title)?;
        let mut rows = section.rows.iter();
        let row = rows.find(|row| row.case == case && row.system == system)?;
        row.values_of(column)
    }

    /// All tables, in Markdown.
    pub(crate) fn tables(&self) -> String {
        self.sections.iter().map(Section::table).collect()
    }
}

fn position_or_push<T>(
    all: &mut Vec<T>,
    is_it: impl Fn(&T) -> bool,
    make: impl FnOnce() -> T,
) -> &mut T {
    let at = all.iter().position(is_it).unwrap_or_else(|| {
        all.push(make());
        all.len() - 1
    });
    &mut all[at]
}

impl Section {
    fn table(&self) -> String {
        let mut text = format!(
            "\n### {}\n\n| | | {} |\n|---|---|{}\n",
            self.title,
            self.columns.join(" | "),
            "---:|".repeat(self.columns.len())
        );
        // Rows of a case stand together, whenever they were measured.
        let mut cases: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        for case in cases {
            let mut name = case;
            for row in self.rows.iter().filter(|row| row.case == case) {
                let cells: Vec<String> =
                    self.columns.iter().map(|column| row.cell(column)).collect();
                writeln!(text, "| {name} | {} | {} |", row.system, cells.join(" | "))
                    .expect("memory");
                name = "";
            }
        }
        text
    }
}

impl Row {
    fn values_of(&self, column: &str) -> Option<&[f64]> {
        let (_, values) = self.values.iter().find(|(name, _)| *name == column)?;
        Some(values)
    }

    /// The median, and in parentheses the best, where there are several.
    fn cell(&self, column: &str) -> String {
        let Some(values) = self.values_of(column) else {
            return "–".to_owned();
        };
        let best = values.iter().copied().reduce(if column.ends_with("/s") {
            f64::max
        } else {
            f64::min
        });
        let shown = figure(median(values));
        match best.map(figure) {
            Some(best) if values.len() > 1 && best != shown => format!("{shown} ({best})"),
            _ => shown,
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A number with about three digits that count.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{value:.0}");
        let (front, back) = digits.split_at(digits.len() - 3);
        format!("{front},{back}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 || value == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_median_and_best_and_a_dash_for_what_is_missing() {
        let mut sheet = Sheet::default();
        for (rate, time) in [(1500.0, 3.0), (1200.0, 1.0), (900.0, 2.0)] {
            sheet.add("T", "one", "a", "x/s", rate);
            sheet.add("T", "one", "a", "ms", time);
        }
        sheet.add("T", "one", "b", "ms", 0.25);
        let expected = "\n### T\n\n| | | x/s | ms |\n|---|---|---:|---:|\n\
                        | one | a | 1,200 (1,500) | 2.00 (1.00) |\n|  | b | – | 0.250 |\n";
        assert_eq!(sheet.tables(), expected);
        assert_eq!(sheet.median("T", "one", "a", "ms"), Some(2.0));
        assert_eq!(sheet.median("T", "two", "a", "ms"), None);
    }

    #[test]
    fn a_ratio_is_that_of_the_same_round() {
        let mut sheet = Sheet::default();
        // The second round was disturbed.
        for (one, other) in [(10.0, 5.0), (2.0, 1.0), (9.0, 5.0)] {
            sheet.add("T", "x", "one", "/s", one);
            sheet.add("T", "x", "other", "/s", other);
        }
        assert_eq!(sheet.ratio("T", "x", ["one", "other"], "/s"), Some(2.0));
    }
}
