//! Passing a call on to the emulator, and EC2's own error format.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

/// The emulator behind the gate.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    http: reqwest::Client,
    url: String,
}

/// An answer of EC2's.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// XML.
    pub body: Vec<u8>,
}

impl Answer {
    /// An error as EC2 writes it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
             <Message>{message}</Message></Error></Errors>\
             <RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
        );
        Self { status, body: body.into_bytes() }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Upstream {
    pub(super) fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without options can be built");
        Self { http, url: url.trim_end_matches('/').to_owned() }
    }

    /// Sends a form body on. The emulator picks the service from the signature's scope and does not verify it, so the
    /// caller's `authorization` also serves for calls of the gate's own.
    pub(super) async fn send(&self, headers: &HeaderMap, form: Vec<u8>) -> Answer {
        let mut request = self.http.post(&self.url).body(form);
        for name in [AUTHORIZATION, CONTENT_TYPE] {
            if let Some(value) = headers.get(&name) {
                request = request.header(name.as_str(), HeaderValue::as_bytes(value));
            }
        }
        match Self::answer(request).await {
            Ok(answer) => answer,
            Err(error) => Answer::error(503, "Unavailable", &format!("the gate cannot reach the emulator: {error}")),
        }
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.bytes().await?.to_vec() })
    }
}
