//! Lambda's Runtime API, as far as one function needs it: events on demand, and when it asked and answered.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Failure;
use crate::http::{Request, Response, serve};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the function did, and when.
enum Did {
    /// It asked for an event: the one before, if there was one, is done, and it is ready.
    Asked(Instant),
    /// It answered, or failed, with these bytes.
    Answered { at: Instant, path: String, body: String },
}

/// One function's runtime.
pub struct Runtime {
    /// Where it is, as `AWS_LAMBDA_RUNTIME_API` wants it.
    pub address: SocketAddr,
    did: Receiver<Did>,
    events: Sender<String>,
}

/// An answer to an event.
pub struct Answered {
    /// Seconds from the event's delivery to the answer.
    pub seconds: f64,
    /// The answer.
    pub body: String,
}

impl Runtime {
    /// Serves one.
    pub fn start() -> Result<Self, Failure> {
        let (to_us, did) = channel();
        let (events, to_function) = channel::<String>();
        let shared = Mutex::new((to_us, to_function));
        let address = serve(move |request| answer(&request, &shared))?;
        Ok(Self { address, did, events })
    }

    /// Waits until the function asks for its next event.
    pub fn ready(&self) -> Result<Instant, Failure> {
        match self.did.recv_timeout(PATIENCE)? {
            Did::Asked(at) => Ok(at),
            Did::Answered { path, body, .. } => Err(format!("the function says {path}: {body}").into()),
        }
    }

    /// Delivers an event to a function that is ready, and takes its answer.
    pub fn invoke(&self, event: String) -> Result<Answered, Failure> {
        let begun = Instant::now();
        self.events.send(event)?;
        match self.did.recv_timeout(PATIENCE)? {
            Did::Answered { at, path, body } if path.ends_with("/response") => {
                Ok(Answered { seconds: at.duration_since(begun).as_secs_f64(), body })
            }
            Did::Answered { path, body, .. } => Err(format!("the function says {path}: {body}").into()),
            Did::Asked(_) => Err("the function asks for an event without having answered the last".into()),
        }
    }
}

/// The lock is held while an event is waited for, which is right for a function that does one thing at a time.
fn answer(request: &Request, shared: &Mutex<(Sender<Did>, Receiver<String>)>) -> Response {
    let at = Instant::now();
    let shared = shared.lock().expect("nothing panics with it");
    if request.method != "GET" {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        // whoever listens may be gone at the end
        let _ = shared.0.send(Did::Answered { at, path: request.path.clone(), body });
        return Response { status: 202, headers: Vec::new(), body: b"{}".to_vec() };
    }
    let _ = shared.0.send(Did::Asked(at));
    let Ok(event) = shared.1.recv() else {
        return Response { status: 500, headers: Vec::new(), body: Vec::new() };
    };
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + PATIENCE;
    let mut next = Response::ok("application/json", event);
    next.headers.extend([
        ("lambda-runtime-aws-request-id", "00000000-0000-0000-0000-000000000000".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned()),
    ]);
    next
}
