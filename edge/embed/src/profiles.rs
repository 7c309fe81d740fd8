//! `/debug/pprof/` of the client URLs: CPU profiles that `go tool pprof` reads, and the command line.
//! The other profiles of Go describe its runtime; requests for them are answered with the reason.
//!
//! A thread samples the stacks of all threads by signals (crate `pprof`), for as long as the client
//! asks and waits. A profile contains names of functions, files and threads, and no data.
//!
//! Source: etcd pkg/debugutil/pprof.go @ v3.7.1, Go's net/http/pprof.

mod encoding;

use bytes::Bytes;
use encoding::Stack;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// Where profiles are served.
pub(crate) const PREFIX: &str = "/debug/pprof";

/// The seconds of a profile, if the request does not say.
const SECONDS_DEFAULT: u64 = 30;
/// The maximum seconds of a profile.
const SECONDS_MAX: u64 = 300;
/// Samples in a second of processor time, as with Go.
const FREQUENCY: u32 = 100;
/// Libraries whose code is not sampled: the unwinder cannot be entered again, and the kernel's code
/// in the process (vDSO) cannot be unwound.
const NOT_SAMPLED: [&str; 2] = ["libgcc", "vdso"];

const INDEX: &str = "<html>\n<head><title>/debug/pprof/</title></head>\n<body>\n<ul>\n\
    <li><a href=\"/debug/pprof/profile?seconds=30\">profile</a>: where processor time goes; \
    seconds is at most 300</li>\n\
    <li><a href=\"/debug/pprof/cmdline\">cmdline</a>: the command line</li>\n\
    </ul>\n</body>\n</html>\n";

/// Profiles of Go's runtime that do not exist here, and why.
const MISSING: [(&str, &str); 8] = [
    ("heap", "allocations are not recorded; see process_resident_memory_bytes in /metrics"),
    ("allocs", "allocations are not recorded; see process_resident_memory_bytes in /metrics"),
    ("goroutine", "there are no goroutines; see go_threads in /metrics"),
    ("threadcreate", "the creation of threads is not recorded; see go_threads in /metrics"),
    ("block", "waiting is not recorded"),
    ("mutex", "waiting for locks is not recorded"),
    ("trace", "there is no scheduler of goroutines to trace"),
    ("symbol", "profiles contain the names of functions already"),
];

/// One profile at a time: signals and their timer belong to the process.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The right to make a profile, until it is dropped.
struct ProfilerPlace;

impl ProfilerPlace {
    fn take() -> Option<ProfilerPlace> {
        (!IS_TAKEN.swap(true, Ordering::AcqRel)).then_some(ProfilerPlace)
    }
}

impl Drop for ProfilerPlace {
    fn drop(&mut self) {
        IS_TAKEN.store(false, Ordering::Release);
    }
}

/// Answers a request; `None` when the path is not below [`PREFIX`].
pub(crate) async fn answer(path: &str, query: &str) -> Option<Response<Bytes>> {
    let name = path.strip_prefix(PREFIX)?;
    let Some(name) = name.strip_prefix('/') else {
        return name.is_empty().then(index);
    };
    Some(match name {
        "" => index(),
        "cmdline" => cmdline(),
        "profile" => match seconds(query) {
            Ok(seconds) => profile(Duration::from_secs(seconds)).await,
            Err(why) => refused(StatusCode::BAD_REQUEST, &why),
        },
        other => match MISSING.iter().find(|(name, _)| *name == other) {
            Some((name, why)) => {
                let why = format!("the profile {name} is not available in this server: {why}");
                refused(StatusCode::NOT_IMPLEMENTED, &why)
            }
            None => refused(StatusCode::NOT_FOUND, "Unknown profile"),
        },
    })
}

fn reply(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    let nosniff = HeaderName::from_static("x-content-type-options");
    headers.insert(nosniff, HeaderValue::from_static("nosniff"));
    reply
}

fn index() -> Response<Bytes> {
    reply(StatusCode::OK, "text/html; charset=utf-8", INDEX)
}

/// The arguments, separated by zero bytes.
fn cmdline() -> Response<Bytes> {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    reply(StatusCode::OK, "text/plain; charset=utf-8", arguments.join("\0"))
}

/// An error in Go's form; its tools print the text if they see the header.
fn refused(status: StatusCode, why: &str) -> Response<Bytes> {
    let mut reply = reply(status, "text/plain; charset=utf-8", format!("{why}\n"));
    reply
        .headers_mut()
        .insert(HeaderName::from_static("x-go-pprof"), HeaderValue::from_static("1"));
    reply
}

/// The seconds of a request. As with Go, no number, and a number of 0 or less, mean the default.
fn seconds(query: &str) -> Result<u64, String> {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    let given = given.and_then(|text| text.parse::<i64>().ok()).filter(|seconds| *seconds > 0);
    match given.map_or(SECONDS_DEFAULT, i64::unsigned_abs) {
        seconds if seconds <= SECONDS_MAX => Ok(seconds),
        _ => Err(format!("the duration of a profile is at most {SECONDS_MAX} seconds")),
    }
}

/// Makes a profile. If this future is dropped, the profile ends.
async fn profile(time: Duration) -> Response<Bytes> {
    let Some(place) = ProfilerPlace::take() else {
        let why = "Could not enable CPU profiling: cpu profiling already in use";
        return refused(StatusCode::INTERNAL_SERVER_ERROR, why);
    };
    let (_client, client) = sync_channel::<()>(1);
    let (done, profiled) = oneshot::channel();
    let make = move || {
        let made = sampled(time, &client);
        drop(place);
        if done.send(made).is_err() {
            tracing::debug!("the client of a profile is gone");
        }
    };
    let made = match thread::Builder::new().name("profile".to_owned()).spawn(make) {
        Ok(_) => profiled.await.unwrap_or_else(|_| Err("the profile was given up".to_owned())),
        Err(error) => Err(error.to_string()),
    };
    match made {
        Ok(bytes) => {
            let mut reply = reply(StatusCode::OK, "application/octet-stream", bytes);
            let name = HeaderValue::from_static("attachment; filename=\"profile\"");
            reply.headers_mut().insert(CONTENT_DISPOSITION, name);
            reply
        }
        Err(why) => {
            let why = format!("Could not enable CPU profiling: {why}");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &why)
        }
    }
}

/// Samples for this time, or until `client` is gone. Returns the compressed profile.
fn sampled(time: Duration, client: &Receiver<()>) -> Result<Vec<u8>, String> {
    let begun = SystemTime::now();
    let guard = ProfilerGuardBuilder::default()
        .frequency(i32::try_from(FREQUENCY).unwrap_or(i32::MAX))
        .blocklist(&NOT_SAMPLED)
        .build()
        .map_err(|error| error.to_string())?;
    tracing::info!(seconds = time.as_secs(), "started a CPU profile");
    if client.recv_timeout(time) != Err(RecvTimeoutError::Timeout) {
        return Err("the client is gone".to_owned());
    }
    let stacks = stacks(&guard)?;
    drop(guard);
    encoding::compressed(&encoding::encode(&stacks, begun, time, FREQUENCY))
        .map_err(|error| error.to_string())
}

fn stacks(guard: &ProfilerGuard<'_>) -> Result<Vec<Stack>, String> {
    let Report { data, .. } = guard.report().build().map_err(|error| error.to_string())?;
    let stacks = data.iter().map(|(frames, count)| Stack {
        thread: frames.thread_name.clone(),
        frames: frames
            .frames
            .iter()
            .map(|symbols| symbols.iter().map(encoding::Called::of).collect::<Vec<_>>())
            .skip_while(|frame| frame.iter().any(encoding::Called::is_profiler))
            .collect(),
        samples: i64::try_from(*count).unwrap_or(i64::MAX),
    });
    Ok(stacks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(path: &str, query: &str) -> Option<(u16, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let reply = runtime.block_on(answer(path, query))?;
        Some((reply.status().as_u16(), String::from_utf8_lossy(reply.body()).into_owned()))
    }

    #[test]
    fn what_cannot_be_answered_is_refused_with_the_reason() {
        for (name, status, text) in [
            ("heap", 501, "allocations are not recorded"),
            ("goroutine", 501, "there are no goroutines"),
            ("foo", 404, "Unknown profile"),
            ("profile/", 404, "Unknown profile"),
        ] {
            let (code, body) = answered(&format!("/debug/pprof/{name}"), "").unwrap();
            assert!(code == status && body.contains(text), "{name}: {code} {body}");
        }
        assert_eq!(answered("/debug/pprofile", ""), None);
        assert_eq!(answered("/debug/vars", ""), None);
        for path in ["/debug/pprof", "/debug/pprof/"] {
            assert!(answered(path, "").unwrap().1.contains("/debug/pprof/profile?seconds=30"));
        }
    }

    #[test]
    fn a_profile_has_thirty_seconds_unless_its_request_has_a_number_up_to_the_limit() {
        for query in ["", "seconds=", "seconds=x", "seconds=-1", "seconds=0", "other=1"] {
            assert_eq!(seconds(query), Ok(30), "{query}");
        }
        assert_eq!(seconds("debug=1&seconds=300"), Ok(300));
        let (code, body) = answered("/debug/pprof/profile", "seconds=301").unwrap();
        assert_eq!((code, &*body), (400, "the duration of a profile is at most 300 seconds\n"));
    }

    #[test]
    fn a_second_profile_is_refused_while_one_is_made() {
        let place = ProfilerPlace::take().unwrap();
        let (code, body) = answered("/debug/pprof/profile", "seconds=1").unwrap();
        assert_eq!(code, 500);
        assert!(body.contains("cpu profiling already in use"), "{body}");
        drop(place);
        assert!(ProfilerPlace::take().is_some());
    }
}
