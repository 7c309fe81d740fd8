//! Feature gates: the names of `--feature-gates` and their defaults.
//!
//! Source: etcd server/features/etcd_features.go and pkg/featuregate @ v3.7.1.

use cli::go::parse_bool;

/// The maturity of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default.
    Alpha,
    /// On by default.
    Beta,
}

impl Stage {
    /// The label in `etcd_server_feature_enabled`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }
}

/// One gate.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The name.
    pub name: &'static str,
    /// The stage, which decides the default.
    pub stage: Stage,
}

const fn gate(name: &'static str, stage: Stage) -> Gate {
    Gate { name, stage }
}

/// Every gate but the groups, by name.
pub const GATES: [Gate; 9] = [
    gate("CompactHashCheck", Stage::Alpha),
    // Leases are always renewed without a round of consensus; the response is the same.
    gate("FastLeaseKeepAlive", Stage::Beta),
    gate("InitialCorruptCheck", Stage::Alpha),
    gate("LeaseCheckpoint", Stage::Alpha),
    gate("LeaseCheckpointPersist", Stage::Alpha),
    gate("PriorityRequest", Stage::Alpha),
    gate("SetMemberLocalAddr", Stage::Alpha),
    // Defragmentation does not block requests here, so no service must be stopped.
    gate("StopGRPCServiceOnDefrag", Stage::Alpha),
    // An option of the Go server's transaction buffers, which do not exist here.
    gate("TxnModeWriteWithSharedBuffer", Stage::Beta),
];

/// A group sets all gates of a stage that the flag does not name.
const GROUPS: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// The state of all gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// In the order of [`GATES`].
    on: [bool; GATES.len()],
    groups: [bool; GROUPS.len()],
}

impl Default for Gates {
    fn default() -> Self {
        Self { on: GATES.map(|g| g.stage == Stage::Beta), groups: [false; GROUPS.len()] }
    }
}

impl Gates {
    /// Reads `A=true,B=false`; the order does not matter.
    ///
    /// # Errors
    /// When a gate is unknown or a value is not a boolean; with etcd's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut gates = Self::default();
        let mut named = [false; GATES.len()];
        for pair in text.split(',').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').map_or((pair, None), |(n, v)| (n, Some(v)));
            let (name, value) = (name.trim(), value.map(str::trim));
            let Some(value) = value else {
                return Err(format!("missing bool value for {name}"));
            };
            let on = parse_bool(value)
                .map_err(|why| format!("invalid value of {name}={value}, err: {why}"))?;
            if let Some(at) = GATES.iter().position(|g| g.name == name) {
                gates.on[at] = on;
                named[at] = true;
            } else if let Some(at) = GROUPS.iter().position(|(group, _)| *group == name) {
                gates.groups[at] = on;
                for (gate, row) in GATES.iter().enumerate() {
                    if row.stage == GROUPS[at].1 && !named[gate] {
                        gates.on[gate] = on;
                    }
                }
            } else {
                return Err(format!("unrecognized feature gate: {name}"));
            }
        }
        Ok(gates)
    }

    /// Whether a gate is on; `false` for a name that does not exist.
    pub fn enabled(&self, name: &str) -> bool {
        GATES.iter().zip(self.on).any(|(gate, on)| gate.name == name && on)
    }

    /// All gates and groups with their stage and state, by name, for the metric.
    pub fn all(&self) -> Vec<(&'static str, Stage, bool)> {
        let groups = GROUPS.iter().zip(self.groups).map(|((n, s), on)| (*n, *s, on));
        groups.chain(GATES.iter().zip(self.on).map(|(g, on)| (g.name, g.stage, on))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_gate_wins_over_its_group() {
        let gates = Gates::parse("StopGRPCServiceOnDefrag=false,AllAlpha=true").unwrap();
        assert!(!gates.enabled("StopGRPCServiceOnDefrag"));
        assert!(gates.enabled("LeaseCheckpoint"));
        assert!(Gates::default().enabled("FastLeaseKeepAlive"));
    }

    #[test]
    fn refusals_have_etcds_words() {
        for (text, error) in [
            ("foo=true", "unrecognized feature gate: foo"),
            ("AllAlpha", "missing bool value for AllAlpha"),
            (
                "AllAlpha=maybe",
                "invalid value of AllAlpha=maybe, err: strconv.ParseBool: parsing \"maybe\": \
                 invalid syntax",
            ),
        ] {
            assert_eq!(Gates::parse(text).unwrap_err(), error);
        }
    }
}
