//! The report of etcd's `benchmark` as JSON for Kubernetes' perfdash.
//!
//! Source: etcd v3.7.1 pkg/report/perfdash.go.

use crate::statistics::{PERCENTILES, Statistics};
use cli::go;

/// The median, the 90th and the 99th percentile in milliseconds.
#[must_use]
pub fn perfdash(of: &Statistics, operation: &str) -> String {
    let found = of.percentiles();
    let ms = |wanted: f64| {
        let place = PERCENTILES.iter().position(|percentile| *percentile == wanted);
        let seconds = place.map_or(0.0, |place| found[place]);
        go::float((seconds * 1000.0 * 10_000.0).round() / 10_000.0)
    };
    let operation = operation.to_uppercase();
    format!(
        r#"{{
  "version": "v1",
  "dataItems": [
    {{
      "data": {{
        "Perc50": {},
        "Perc90": {},
        "Perc99": {}
      }},
      "labels": {{
        "Operation": "{operation}"
      }},
      "unit": "ms"
    }}
  ]
}}"#,
        ms(50.0),
        ms(90.0),
        ms(99.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn times_are_in_milliseconds_with_four_digits() {
        let times = (1..=100).map(|ms| f64::from(ms) / 1000.0 + 0.000_012_34).collect();
        let statistics = Statistics::new(times, BTreeMap::new(), Duration::from_secs(1));
        let text = perfdash(&statistics, "put");
        for line in ["\"Perc50\": 51.0123,", "\"Perc99\": 100.0123\n", "\"Operation\": \"PUT\""] {
            assert!(text.contains(line), "{text}");
        }
    }
}
