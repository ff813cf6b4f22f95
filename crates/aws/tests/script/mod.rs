//! A server on loopback that answers from a script and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::SdkConfig;
use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    length_unknown: bool,
    after: Duration,
}

/// An answer with this status and body.
pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into(), length_unknown: false, after: Duration::ZERO }
}

#[allow(dead_code, reason = "each test binary uses some of them")]
impl Answer {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sent in chunks, so that the reader does not know the length beforehand.
    pub fn length_unknown(mut self) -> Self {
        self.length_unknown = true;
        self
    }

    /// Sent after a while.
    pub fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }
}

/// One request that came.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each test binary uses some of them")]
pub struct Asked {
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Clone, Default)]
pub struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    /// Starts a server with these answers, one a request; the last one is repeated.
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> (Self, String) {
        let script = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(serve).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (script, url)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn next(&self) -> Answer {
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    }
}

/// What becomes of every answer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(dead_code, reason = "each test binary uses some of them")]
pub enum Fault {
    /// None comes.
    Silent,
    /// The connection is cut once the request is taken.
    CutBefore,
    /// The connection is cut within the answer.
    CutWithin,
    /// The answer says nothing that a service would say.
    Nonsense,
}

/// A server that takes requests whole and fails so.
#[allow(dead_code, reason = "each test binary uses some of them")]
pub async fn faulty(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(fail(connection, fault));
        }
    });
    url
}

async fn fail(mut connection: TcpStream, fault: Fault) {
    take_request(&mut connection).await;
    let answer = match fault {
        Fault::Silent => std::future::pending().await,
        Fault::CutBefore => "",
        Fault::CutWithin => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<",
        Fault::Nonsense => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n!%&(?",
    };
    // the client may have gone already
    let _ = connection.write_all(answer.as_bytes()).await;
}

/// Reads a request with its body: what is left unread would cut the connection before the answer.
async fn take_request(connection: &mut TcpStream) {
    let mut taken = Vec::new();
    while !is_whole(&String::from_utf8_lossy(&taken)) {
        if connection.read_buf(&mut taken).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

async fn serve(State(script): State<Script>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 1 << 20).await.unwrap();
    let path_and_query = parts.uri.path_and_query().unwrap().to_string();
    let body = String::from_utf8_lossy(&body).into_owned();
    script.asked.lock().unwrap().push(Asked { path_and_query, headers: parts.headers, body });
    let answer = script.next();
    tokio::time::sleep(answer.after).await;
    let body = match answer.length_unknown {
        false => Body::from(answer.body),
        true => {
            // A body without an exact size is sent in chunks.
            let parts: Vec<_> = answer.body.chunks(1000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect();
            Body::from_stream(futures_util::stream::iter(parts))
        }
    };
    let mut response = (StatusCode::from_u16(answer.status).unwrap(), body).into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A configuration for one endpoint that does not repeat calls and gives each so long.
#[allow(dead_code, reason = "each test binary uses some of them")]
pub async fn impatient(url: &str, timeout: Duration) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().operation_timeout(timeout).build();
    config(url).await.into_builder().timeout_config(timeouts).retry_config(RetryConfig::disabled()).build()
}

/// A configuration that calls this endpoint with made-up credentials, and our retries and time-outs.
#[allow(dead_code, reason = "each test binary uses some of them")]
pub async fn config(url: &str) -> SdkConfig {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    aws::config::loader()
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}
