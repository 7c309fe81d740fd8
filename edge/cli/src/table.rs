//! Tables in boxes: header in capitals and centred, cells to the right and without spaces around.
//!
//! Source: the look of olekukonko/tablewriter @ 1.x as etcd v3.7.1's tools set it up.

/// Draws a table, each line ending in a line feed.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> =
        header.iter().map(|name| name.replace('_', " ").to_uppercase()).collect();
    let rows: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().map(|cell| cell.trim()).collect()).collect();
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
            // One space on either side.
            cells.chain([width(&header[column])]).max().unwrap_or(0) + 2
        })
        .collect();
    let rule = |left: char, middle: &str, right: char| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let line = |cells: Vec<String>| format!("│{}│\n", cells.join("│"));
    let mut drawn = rule('┌', "┬", '┐');
    let centred = header.iter().zip(&widths).map(|(text, width)| format!("{text:^width$}"));
    drawn.push_str(&line(centred.collect()));
    if !rows.is_empty() {
        drawn.push_str(&rule('├', "┼", '┤'));
    }
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(text, width)| {
            let width = *width - 1;
            format!("{text:>width$} ")
        });
        drawn.push_str(&line(cells.collect()));
    }
    drawn.push_str(&rule('└', "┴", '┘'));
    drawn
}
