//! Signed HTTP calls to AWS's own interfaces, so that the tests need no further AWS SDK.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use reqwest::Method;
use serde_json::Value;

use crate::Error;

/// The region everything is in.
pub const REGION: &str = "us-east-1";
/// The account's root key, as ministack knows it.
pub const ACCESS_KEY_ID: &str = "test";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "test";

/// A client of one endpoint, with the root credentials of the local account.
#[derive(Clone, Debug)]
pub struct AwsClient {
    http: reqwest::Client,
    endpoint: String,
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub struct Request {
    /// The service's signing name: `dynamodb`, `s3`, `lambda`, …
    pub service: &'static str,
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded once.
    pub path: String,
    /// Further headers, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer, of any status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The error that a Lambda invocation reports beside its status 200.
    pub function_error: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl AwsClient {
    /// A client of `endpoint`, for example `http://127.0.0.1:4566`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        // No proxy: everything is on loopback.
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without options can be built");
        Self { http, endpoint: endpoint.into() }
    }

    /// Its endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// An action of a Query interface (CloudFormation, EC2, IAM); gives the XML.
    ///
    /// # Errors
    /// If it cannot be reached or answers with an error.
    pub async fn query(
        &self,
        service: &'static str,
        version: &str,
        action: &str,
        params: &[(String, String)],
    ) -> Result<String, Error> {
        let request = Request {
            service,
            method: Method::POST,
            path: "/".into(),
            headers: vec![("content-type", "application/x-www-form-urlencoded".into())],
            body: form(action, version, params),
        };
        Ok(self.expect_success(action, request).await?.text())
    }

    /// An action of a JSON interface; `target` as in `DynamoDB_20120810.PutItem`.
    ///
    /// # Errors
    /// If it cannot be reached, answers with an error or with something that is no JSON.
    pub async fn json(&self, service: &'static str, target: &str, body: &Value) -> Result<Value, Error> {
        let version = if service == "dynamodb" { "1.0" } else { "1.1" };
        let request = Request {
            service,
            method: Method::POST,
            path: "/".into(),
            headers: vec![
                ("content-type", format!("application/x-amz-json-{version}")),
                ("x-amz-target", target.into()),
            ],
            body: body.to_string().into_bytes(),
        };
        let reply = self.expect_success(target, request).await?;
        serde_json::from_slice(&reply.body).map_err(|e| Error::Answer { action: target.into(), reason: e.to_string() })
    }

    /// Sends a request whose answer must have a status of 2xx.
    ///
    /// # Errors
    /// If it cannot be reached or answers with an error.
    pub async fn expect_success(&self, action: &str, request: Request) -> Result<Reply, Error> {
        let action = format!("{} {action}", request.service);
        let reply = self.send(request).await?;
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        Err(Error::Service { action, status: reply.status, message: reply.text() })
    }

    /// Signs and sends.
    ///
    /// # Errors
    /// If it cannot be signed or reached; an answer of any status is no error.
    pub async fn send(&self, request: Request) -> Result<Reply, Error> {
        let url = format!("{}{}", self.endpoint, request.path);
        let mut outgoing = self.http.request(request.method.clone(), &url);
        for (name, value) in request.headers.iter().cloned().chain(signature(&request, &url)?) {
            outgoing = outgoing.header(name, value);
        }
        let unreachable = |source| Error::Unreachable { url: url.clone(), source };
        let answer = outgoing.body(request.body).send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let function_error = answer.headers().get("x-amz-function-error").and_then(|v| v.to_str().ok()).map(Into::into);
        let body = answer.bytes().await.map_err(unreachable)?.to_vec();
        Ok(Reply { status, function_error, body })
    }
}

/// The form body of a Query interface's action.
pub(crate) fn form(action: &str, version: &str, params: &[(String, String)]) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", version).extend_pairs(params);
    form.finish().into_bytes()
}

/// The headers that Signature Version 4 adds.
fn signature(request: &Request, url: &str) -> Result<Vec<(&'static str, String)>, Error> {
    let identity = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None, None, "localcloud").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(request.service)
        .time(SystemTime::now())
        .settings(settings(request.service))
        .build()
        .map_err(|e| Error::Sign(e.to_string()))?
        .into();
    let headers = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let signable = SignableRequest::new(request.method.as_str(), url, headers, SignableBody::Bytes(&request.body))
        .map_err(|e| Error::Sign(e.to_string()))?;
    let (instructions, _) = sign(signable, &params).map_err(|e| Error::Sign(e.to_string()))?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers.iter().map(|header| (header.name(), header.value().to_owned())).collect())
}

/// S3 signs the path as it is and wants the body's hash in a header; the others do neither.
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}
