//! A real Prometheus that scrapes the members.

use crate::mixin::JOB;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running Prometheus; dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    address: String,
}

/// One result: its labels, and its value.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts it in a folder. It scrapes the addresses once a second.
    pub(crate) fn start(program: &Path, folder: &Path, targets: &[&str]) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", ports::free()?);
        let configuration = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: \
             {JOB}\n    static_configs: [{{targets: {targets:?}}}]\n"
        );
        std::fs::write(&configuration, text)?;
        let log = std::fs::File::create(folder.join("prometheus.log"))?;
        let child = Command::new(program)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, address })
    }

    /// The results of an expression now.
    pub(crate) fn query(&mut self, expression: &str) -> anyhow::Result<Vec<Sample>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("Prometheus has ended: {status}");
        }
        let answer = self.get(&format!("/api/v1/query?query={}", escaped(expression)))?;
        ensure!(answer["status"] == "success", "{expression}: {answer}");
        let results = answer["data"]["result"].as_array().context("there is no result")?;
        results.iter().map(|result| sample(result).context("not a sample")).collect()
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(&self.address).context("Prometheus does not listen")?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (_, body) = text.split_once("\r\n\r\n").context("there is no body")?;
        serde_json::from_str(body).with_context(|| body.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn sample(result: &Value) -> Option<Sample> {
    let mut labels = BTreeMap::new();
    for (name, value) in result["metric"].as_object()? {
        if name != "__name__" {
            labels.insert(name.clone(), value.as_str()?.to_owned());
        }
    }
    Some(Sample { labels, value: result["value"][1].as_str()?.parse().ok()? })
}

/// Percent-encodes all bytes but letters and digits.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_escaped_for_a_url() {
        assert_eq!(escaped("a{b=\"c\"} > 0"), "a%7Bb%3D%22c%22%7D%20%3E%200");
    }

    #[test]
    fn a_sample_has_its_labels_without_the_name() {
        let result = serde_json::json!({
            "metric": {"__name__": "x", "job": "etcd"},
            "value": [1.5, "NaN"],
        });
        let sample = sample(&result).unwrap();
        assert_eq!(sample.labels, BTreeMap::from([("job".to_owned(), "etcd".to_owned())]));
        assert!(sample.value.is_nan());
    }
}
