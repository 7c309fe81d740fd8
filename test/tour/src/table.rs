//! Tables as etcdctl prints them (`+---+` up to 3.6, `┌───┐` since): cells that change from run to
//! run are replaced with `*`, and their columns get a fixed width.

/// Columns whose cells change from run to run, or with the version.
const CHANGING: &[&str] = &[
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "TOOK",
];

/// The same for the status of a snapshot: the hash covers the whole file, and the number of
/// internal keys depends on the version.
const CHANGING_IN_SNAPSHOTS: &[&str] = &["HASH", "TOTAL KEYS", "TOTAL SIZE"];

/// Columns with text in which Go's protobuf puts one or two spaces, depending on the build.
const SPACED: &[&str] = &["ERRORS"];

/// How a column is normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    /// Not at all.
    Keep,
    /// The text is kept, the width is not.
    Narrow,
    /// Text and width are masked.
    Mask,
}

/// Masks the changing columns of every table in `text`.
#[must_use]
pub fn mask(text: &str, of_snapshot: bool) -> String {
    let column = |head: &str| {
        if CHANGING.contains(&head) || of_snapshot && CHANGING_IN_SNAPSHOTS.contains(&head) {
            Column::Mask
        } else if SPACED.contains(&head) {
            Column::Narrow
        } else {
            Column::Keep
        }
    };
    let mut columns: Vec<Column> = Vec::new();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut head = None;
    for at in 0..lines.len() {
        if is_top(&lines, at) {
            head = Some(at + 1);
            columns = cells(&lines[at + 1]).map(|cell| column(cell.trim())).collect();
        }
        if is_border(&lines[at]) {
            lines[at] = masked_border(&lines[at], &columns);
        } else if is_row(&lines[at]) {
            lines[at] = masked_row(&lines[at], &columns, head == Some(at));
        }
    }
    let mut masked = lines.join("\n");
    if text.ends_with('\n') {
        masked.push('\n');
    }
    masked
}

fn is_border(line: &str) -> bool {
    line.starts_with(['+', '┌', '├', '└'])
}

fn is_row(line: &str) -> bool {
    line.starts_with(['|', '│'])
}

/// A border above a row that is not below one: the head of a table.
fn is_top(lines: &[String], at: usize) -> bool {
    is_border(&lines[at])
        && lines.get(at + 1).is_some_and(|next| is_row(next))
        && (at == 0 || !is_row(&lines[at - 1]))
}

fn cells(row: &str) -> impl Iterator<Item = &str> {
    let inner = row.trim_matches(['|', '│']);
    inner.split(['|', '│'])
}

fn masked_row(row: &str, columns: &[Column], is_head: bool) -> String {
    let bar = row.chars().next().unwrap_or('|');
    let mut masked = String::from(bar);
    for (at, cell) in cells(row).enumerate() {
        match columns.get(at) {
            None | Some(Column::Keep) => masked.push_str(cell),
            // An empty cell is not masked: it means that there is no value.
            Some(Column::Mask) if !is_head && !cell.trim().is_empty() => masked.push_str(" * "),
            Some(Column::Mask | Column::Narrow) => masked.push_str(&format!(" {} ", cell.trim())),
        }
        masked.push(bar);
    }
    masked
}

fn masked_border(border: &str, columns: &[Column]) -> String {
    let mut masked = String::new();
    let mut column = 0;
    let mut pending = None;
    for char in border.chars() {
        if matches!(char, '-' | '─') {
            if columns.get(column).is_some_and(|column| *column != Column::Keep) {
                pending = Some(char);
            } else {
                masked.push(char);
            }
        } else {
            // One line for a masked column, however wide it was.
            if masked.chars().count() > 0 {
                column += 1;
            }
            masked.extend(pending.take());
            masked.push(char);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: &str = "\
+----+---------+----+
| ID | DB SIZE | OK |
+----+---------+----+
| ab |   20 kB | no |
+----+---------+----+
";

    #[test]
    fn changing_columns_are_masked_and_lose_their_width() {
        let wide = NARROW.replace("20 kB", "20000 kB").replace("---------", "------------");
        let expected = "\
+----+-+----+
| ID | DB SIZE | OK |
+----+-+----+
| ab | * | no |
+----+-+----+
";
        assert_eq!(mask(NARROW, false), expected);
        assert_eq!(mask(&wide, false), expected);
    }

    #[test]
    fn other_columns_keep_every_byte() {
        let text = NARROW.replace("DB SIZE", "REVISON");
        assert_eq!(mask(&text, false), text);
        assert_eq!(mask("no table\n", true), "no table\n");
    }
}
