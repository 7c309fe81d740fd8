//! The expressions of etcd's alerts and dashboards: `expressions.txt`.

use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;

const TEXT: &str = include_str!("../expressions.txt");
/// The job of the cluster in Prometheus.
pub(crate) const JOB: &str = "retcd-etcd";
/// What Grafana makes of `$__rate_interval` with a scrape interval of 15 s.
const RATE_INTERVAL: &str = "1m";

/// A panel of a dashboard, or an alert.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its title or name.
    pub(crate) name: String,
    /// The labels of its results.
    pub(crate) labels: BTreeSet<String>,
    /// Expressions that must have results: a panel's only one; each side of an alert with `bool`, so
    /// that it has results however the comparison ends.
    pub(crate) shown: Vec<String>,
    /// An alert's condition.
    pub(crate) condition: Option<String>,
}

/// All panels and alerts.
pub(crate) fn rows() -> anyhow::Result<Vec<Row>> {
    let lines: Vec<&str> = TEXT.lines().filter(|line| !line.starts_with('#')).collect();
    let blocks = lines.split(|line| line.trim().is_empty()).filter(|block| !block.is_empty());
    blocks.map(|block| row(block).with_context(|| format!("{block:?}"))).collect()
}

fn row(block: &[&str]) -> anyhow::Result<Row> {
    let (head, lines) = block.split_first().context("a block is empty")?;
    let (head, labels) = head.split_once(':').context("there is no colon")?;
    let (kind, name) = head.split_once(' ').context("there is no name")?;
    let name = name.to_owned();
    let labels = labels.split_whitespace().map(str::to_owned).collect();
    let filled =
        |text: &str| text.replace("$cluster", JOB).replace("$__rate_interval", RATE_INTERVAL);
    match kind {
        "panel" => {
            let [expression] = lines else { bail!("a panel has one expression") };
            Ok(Row { name, labels, shown: vec![filled(expression)], condition: None })
        }
        "alert" => {
            let (mut shown, mut conditions) = (Vec::new(), Vec::new());
            for pair in lines.chunks(2) {
                let [side, comparison] = pair else { bail!("a comparison is missing") };
                let (operator, with) = comparison.split_once(' ').context("no operator")?;
                ensure!(["<", ">", "==", ">="].contains(&operator), "{operator:?}");
                shown.push(format!("({side}) {operator} bool {with}"));
                conditions.push(format!("({side}) {operator} {with}"));
            }
            Ok(Row { name, labels, shown, condition: Some(conditions.join(" and ")) })
        }
        other => bail!("{other:?} is neither a panel nor an alert"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_panels_and_alerts_are_listed() {
        let rows = rows().unwrap();
        let alerts = rows.iter().filter(|row| row.condition.is_some()).count();
        assert_eq!((alerts, rows.len() - alerts), (13, 19));
        let last = rows.last().unwrap();
        assert_eq!(last.shown.len(), 2);
        assert!(last.condition.as_ref().unwrap().contains(" < 0.5 and ("));
        assert!(rows.iter().all(|row| row.shown.iter().all(|text| !text.contains('$'))));
    }
}
