//! The SDK's configuration, loaded once and shared by all services.
//!
//! The SDK's standard retries, with jitter, are the only retry layer; nothing above a port repeats a call. Region,
//! credentials (environment, profile, container, instance) and endpoints come from the usual chain.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};

/// Attempts of one call, the first included.
pub const ATTEMPTS_MAX: u32 = 3;
/// Time to connect. Inside one region a connection stands in milliseconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time of one attempt.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time of a call, all attempts and pauses included: a function of 30 s survives one that uses it up.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(12);

/// Time to connect to an emulator. It shares its processor with builds and tests.
pub const EMULATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time of one attempt at an emulator: on a busy machine it has taken more than [`CALL_TIMEOUT`] to answer.
pub const EMULATOR_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Time of a call to an emulator, all attempts and pauses included.
pub const EMULATOR_CALL_TIMEOUT: Duration = Duration::from_secs(150);

/// A loader with our retries and time-outs; set an endpoint, a region or credentials on it, or just load it.
pub fn loader() -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts)
}

/// The configuration of the environment this runs in.
pub async fn load() -> SdkConfig {
    loader().load().await
}

/// Keys for an endpoint of one's own, as an emulator's.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// The region.
    pub region: &'a str,
    /// The access key's id.
    pub key_id: &'a str,
    /// The access key's secret.
    pub secret: &'a str,
}

/// A configuration for one endpoint, instead of AWS's own; for local clouds, with the time-outs of an emulator.
pub async fn at(endpoint: &str, access: Access<'_>) -> SdkConfig {
    let credentials = aws_credential_types::Credentials::new(access.key_id, access.secret, None, None, "given");
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(EMULATOR_CONNECT_TIMEOUT)
        .operation_attempt_timeout(EMULATOR_ATTEMPT_TIMEOUT)
        .operation_timeout(EMULATOR_CALL_TIMEOUT)
        .build();
    loader()
        .timeout_config(timeouts)
        .endpoint_url(endpoint)
        .region(aws_config::Region::new(access.region.to_owned()))
        .credentials_provider(credentials)
        .load()
        .await
}
