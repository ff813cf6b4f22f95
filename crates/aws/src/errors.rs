//! Every AWS error code that we name, and the kind it means; nothing else in the workspace reads a code.
//!
//! A code that is not named here is judged by the HTTP status.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use controller::ports::{Kind, PortError};

/// Every error code that we name, and the kind it means.
pub const CODES: &[(&str, Kind)] = &[
    // EC2 cannot give the machine: no capacity, a quota, a full subnet.
    ("InsufficientInstanceCapacity", Kind::NoCapacity),
    ("InsufficientHostCapacity", Kind::NoCapacity),
    ("InsufficientCapacity", Kind::NoCapacity),
    ("InsufficientFreeAddressesInSubnet", Kind::NoCapacity),
    ("InsufficientReservedInstanceCapacity", Kind::NoCapacity),
    ("ReservationCapacityExceeded", Kind::NoCapacity),
    ("VcpuLimitExceeded", Kind::NoCapacity),
    ("InstanceLimitExceeded", Kind::NoCapacity),
    ("MaxSpotInstanceCountExceeded", Kind::NoCapacity),
    ("RequestLimitExceeded", Kind::Throttled),
    ("Throttling", Kind::Throttled),
    ("ThrottlingException", Kind::Throttled),
    ("ThrottledException", Kind::Throttled),
    ("ThrottlingError", Kind::Throttled),
    ("RequestThrottled", Kind::Throttled),
    ("RequestThrottledException", Kind::Throttled),
    ("TooManyRequestsException", Kind::Throttled),
    ("ProvisionedThroughputExceeded", Kind::Throttled),
    ("ProvisionedThroughputExceededException", Kind::Throttled),
    ("LimitExceededException", Kind::Throttled),
    ("SlowDown", Kind::Throttled),
    ("EC2ThrottledException", Kind::Throttled),
    ("ConditionalCheckFailed", Kind::Conflict),
    ("ConditionalCheckFailedException", Kind::Conflict),
    ("TransactionCanceled", Kind::Conflict),
    ("TransactionCanceledException", Kind::Conflict),
    ("TransactionConflict", Kind::Conflict),
    ("TransactionConflictException", Kind::Conflict),
    ("PreconditionFailed", Kind::Conflict),
    ("ConditionalRequestConflict", Kind::Conflict),
    ("UnauthorizedOperation", Kind::Denied),
    ("AccessDenied", Kind::Denied),
    ("AccessDeniedException", Kind::Denied),
    ("AuthFailure", Kind::Denied),
    ("Blocked", Kind::Denied),
    ("ExpiredToken", Kind::Denied),
    ("ExpiredTokenException", Kind::Denied),
    ("IncompleteSignature", Kind::Denied),
    ("InvalidAccessKeyId", Kind::Denied),
    ("InvalidClientTokenId", Kind::Denied),
    ("InvalidSignatureException", Kind::Denied),
    ("OperationNotPermitted", Kind::Denied),
    ("OptInRequired", Kind::Denied),
    ("PendingVerification", Kind::Denied),
    ("SignatureDoesNotMatch", Kind::Denied),
    ("UnrecognizedClientException", Kind::Denied),
    ("NoSuchKey", Kind::NotFound),
    ("NoSuchBucket", Kind::NotFound),
    ("ResourceNotFound", Kind::NotFound),
    ("ResourceNotFoundException", Kind::NotFound),
    ("InvalidAMIID.NotFound", Kind::NotFound),
    ("InvalidGroup.NotFound", Kind::NotFound),
    ("InvalidInstanceID.NotFound", Kind::NotFound),
    ("InvalidLaunchTemplateId.NotFound", Kind::NotFound),
    ("InvalidLaunchTemplateName.NotFoundException", Kind::NotFound),
    ("InvalidSubnetID.NotFound", Kind::NotFound),
    // The launch was carried out earlier, and its machine is gone since.
    ("IdempotentInstanceTerminated", Kind::NotFound),
    // Terminal: the same token was used for something else. Never try a new token.
    ("IdempotentParameterMismatch", Kind::Invalid),
    ("IdempotentParameterMismatchException", Kind::Invalid),
    ("ValidationException", Kind::Invalid),
    ("ValidationError", Kind::Invalid),
    ("InvalidParameterValue", Kind::Invalid),
    ("InvalidParameterCombination", Kind::Invalid),
    ("MissingParameter", Kind::Invalid),
    ("Unsupported", Kind::Invalid),
    ("InternalError", Kind::Unavailable),
    ("InternalFailure", Kind::Unavailable),
    ("InternalServerError", Kind::Unavailable),
    ("InternalServiceError", Kind::Unavailable),
    ("InternalServiceFault", Kind::Unavailable),
    ("RequestTimeout", Kind::Unavailable),
    ("RequestTimeoutException", Kind::Unavailable),
    ("ServiceUnavailable", Kind::Unavailable),
    ("Unavailable", Kind::Unavailable),
    // Our own transaction, repeated by the SDK while the first attempt is at work: it may still win.
    ("TransactionInProgressException", Kind::Unavailable),
];

/// The kind that an error code means, if we name the code.
pub fn kind_of(code: &str) -> Option<Kind> {
    CODES.iter().find(|(name, _)| *name == code).map(|(_, kind)| *kind)
}

/// The kind that an HTTP status means, where the code says nothing.
pub fn kind_of_status(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Denied,
        404 | 410 => Kind::NotFound,
        408 | 500.. => Kind::Unavailable,
        409 | 412 => Kind::Conflict,
        429 => Kind::Throttled,
        _ => Kind::Invalid,
    }
}

/// Turns the SDK's error for `operation` into a port's: `call.await.map_err(failed("PutItem"))`.
pub fn failed<E>(operation: &'static str) -> impl FnOnce(SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    move |error| port_error(operation, &error)
}

fn port_error<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        // The service did as it was told, and what it said of it cannot be read.
        SdkError::ServiceError(service) if service.raw().status().is_success() => unread(operation, error),
        SdkError::ResponseError(_) => unread(operation, error),
        SdkError::ServiceError(service) => {
            let message = service.err().message().unwrap_or("the service gave no message");
            answered(operation, service.err().code(), message, service.raw().status().as_u16())
        }
        _ => unanswered(operation, error),
    }
}

/// The error of a call whose answer is cut or not what the service says it answers. It may have taken effect: a launch is
/// then repeated with its token, and not taken for refused.
fn unread(operation: &'static str, error: &(dyn Error + 'static)) -> PortError {
    PortError { operation, code: "UnreadableResponse".into(), message: chain(error), kind: Kind::Unavailable }
}

/// The error of a service that answered with `code` (if it gave one) and an HTTP status.
pub(crate) fn answered(operation: &'static str, code: Option<&str>, message: &str, status: u16) -> PortError {
    let kind = code.and_then(kind_of).unwrap_or_else(|| kind_of_status(status));
    let code = code.map_or_else(|| format!("Http{status}"), str::to_owned);
    let message = match kind {
        Kind::Denied => format!("not allowed to call {operation}: {message}"),
        _ => message.to_owned(),
    };
    PortError { operation, code, message, kind }
}

/// The error of a call that got no answer: whether it took effect is unknown, unless it was never sent.
fn unanswered<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: Error + 'static,
{
    let (code, kind) = match (credentials_error(error), error) {
        (Some(CredentialsError::ProviderTimedOut(_)), _) => ("CredentialsTimeout", Kind::Unavailable),
        (Some(_), _) => ("NoCredentials", Kind::Denied),
        (None, SdkError::ConstructionFailure(_)) => ("InvalidRequest", Kind::Invalid),
        (None, SdkError::TimeoutError(_)) => ("Timeout", Kind::Unavailable),
        (None, SdkError::DispatchFailure(_)) => ("NoConnection", Kind::Unavailable),
        (None, _) => ("NoAnswer", Kind::Unavailable),
    };
    let message = match kind {
        Kind::Denied => format!("not allowed to call {operation}: {}", chain(error)),
        _ => chain(error),
    };
    PortError { operation, code: code.into(), message, kind }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn Error + 'static)| (*e).source())
}

fn credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and all its causes, as displayed; never the debug form, which may hold requests.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::metadata::ErrorMetadata;

    #[derive(Debug)]
    struct Service(ErrorMetadata);

    impl std::fmt::Display for Service {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("service error")
        }
    }

    impl Error for Service {}

    impl ProvideErrorMetadata for Service {
        fn meta(&self) -> &ErrorMetadata {
            &self.0
        }
    }

    fn response(status: u16) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::empty())
    }

    fn service(code: Option<&str>, status: u16) -> PortError {
        let mut metadata = ErrorMetadata::builder().message("the message");
        if let Some(code) = code {
            metadata = metadata.code(code);
        }
        failed("RunInstances")(SdkError::service_error(Service(metadata.build()), response(status)))
    }

    #[test]
    fn every_code_has_its_kind_whatever_the_status() {
        let table = [
            ("InsufficientInstanceCapacity", Kind::NoCapacity),
            ("InsufficientHostCapacity", Kind::NoCapacity),
            ("VcpuLimitExceeded", Kind::NoCapacity),
            ("InstanceLimitExceeded", Kind::NoCapacity),
            ("InsufficientFreeAddressesInSubnet", Kind::NoCapacity),
            ("RequestLimitExceeded", Kind::Throttled),
            ("ThrottlingException", Kind::Throttled),
            ("ProvisionedThroughputExceededException", Kind::Throttled),
            ("ConditionalCheckFailedException", Kind::Conflict),
            ("TransactionCanceledException", Kind::Conflict),
            ("PreconditionFailed", Kind::Conflict),
            ("IdempotentParameterMismatch", Kind::Invalid),
            ("UnauthorizedOperation", Kind::Denied),
            ("AccessDenied", Kind::Denied),
            ("ExpiredTokenException", Kind::Denied),
            ("NoSuchKey", Kind::NotFound),
            ("ResourceNotFoundException", Kind::NotFound),
            ("InvalidInstanceID.NotFound", Kind::NotFound),
            ("InvalidLaunchTemplateName.NotFoundException", Kind::NotFound),
            ("InternalServerError", Kind::Unavailable),
            ("TransactionInProgressException", Kind::Unavailable),
        ];
        for (code, kind) in table {
            for status in [400, 503] {
                let error = service(Some(code), status);
                assert_eq!((error.kind, error.code.as_str()), (kind, code));
            }
        }
    }

    #[test]
    fn no_code_is_named_twice() {
        let names: std::collections::BTreeSet<_> = CODES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), CODES.len());
    }

    #[test]
    fn a_code_that_we_do_not_name_is_judged_by_the_status() {
        let table = [
            (400, Kind::Invalid),
            (403, Kind::Denied),
            (404, Kind::NotFound),
            (409, Kind::Conflict),
            (412, Kind::Conflict),
            (429, Kind::Throttled),
            (500, Kind::Unavailable),
            (503, Kind::Unavailable),
        ];
        for (status, kind) in table {
            assert_eq!(service(Some("Brand.NewCode"), status).kind, kind, "{status}");
            let bare = service(None, status);
            assert_eq!((bare.kind, bare.code), (kind, format!("Http{status}")));
        }
    }

    #[test]
    fn a_denial_says_which_action() {
        let text = service(Some("UnauthorizedOperation"), 403).to_string();
        assert_eq!(text, "RunInstances: UnauthorizedOperation: not allowed to call RunInstances: the message");
    }

    fn unsent(error: SdkError<Service, HttpResponse>) -> PortError {
        failed("Query")(error)
    }

    #[test]
    fn no_answer_is_unavailable_and_a_bad_request_is_invalid() {
        let timeout = unsent(SdkError::timeout_error("5 s"));
        assert_eq!((timeout.kind, timeout.code.as_str()), (Kind::Unavailable, "Timeout"));
        assert!(timeout.message.ends_with("5 s"), "{}", timeout.message);
        let cut = unsent(SdkError::dispatch_failure(ConnectorError::io("connection reset".into())));
        assert_eq!((cut.kind, cut.code.as_str()), (Kind::Unavailable, "NoConnection"));
        assert_eq!(unsent(SdkError::construction_failure("no table name")).kind, Kind::Invalid);
    }

    /// Whatever it was, it may have taken effect.
    #[test]
    fn an_answer_that_cannot_be_read_is_unavailable() {
        for status in [200, 400, 502] {
            let error = unsent(SdkError::response_error("cut", response(status)));
            assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, "UnreadableResponse"), "{status}");
        }
        assert_eq!(service(None, 200).kind, Kind::Unavailable);
    }

    #[test]
    fn missing_credentials_are_a_denial() {
        let cause = CredentialsError::not_loaded("nothing in the chain");
        let error = unsent(SdkError::dispatch_failure(ConnectorError::other(cause.into(), None)));
        assert_eq!((error.kind, error.code.as_str()), (Kind::Denied, "NoCredentials"));
        assert!(error.message.contains("Query"), "{}", error.message);
    }
}
