//! The records of clients' calls: the audit log and the export of traces.

use super::failure::StartFailure;
use crate::audit::AuditLog;
use crate::config::Config;
use crate::traces::TraceExport;
use server::metrics::Metrics;
use std::sync::Arc;

/// The records of clients' calls, as far as the configuration asks for them.
#[derive(Debug)]
pub(super) struct CallRecords {
    pub(super) audit: Option<AuditLog>,
    pub(super) traces: Option<TraceExport>,
}

impl CallRecords {
    pub(super) fn open(
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<CallRecords, StartFailure> {
        let audit = config.logging.audit.as_ref().map(|file| {
            AuditLog::start(file, metrics).map_err(|error| {
                let path = file.path.display();
                StartFailure::Other(format!("cannot open the audit log {path}: {error}"))
            })
        });
        let traces = config.monitoring.tracing.as_ref().map(|options| {
            let export = TraceExport::start(options, metrics)
                .map_err(|error| StartFailure::Other(format!("cannot export traces: {error}")));
            export.inspect(|_| tracing::info!("distributed tracing setup enabled"))
        });
        Ok(CallRecords { audit: audit.transpose()?, traces: traces.transpose()? })
    }

    /// Waits until everything so far is written and sent, but not for long.
    pub(super) fn flush(&self) {
        if let Some(audit) = &self.audit {
            audit.flush();
        }
        if let Some(traces) = &self.traces {
            traces.flush();
        }
    }
}
