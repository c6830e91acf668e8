//! The body of a request, whole and bounded.

use super::Problem;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use std::time::Duration;

/// Reads the whole body.
///
/// # Errors
/// 413 over `bytes_max`, 408 when it takes longer than `time`, 400 when it is malformed.
pub(crate) async fn read_body(
    request: Request<Incoming>,
    bytes_max: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), bytes_max).collect();
    match tokio::time::timeout(time, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = "The body is larger than the limit.";
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).with_limit(bytes_max as u64))
        }
        Ok(Err(_)) => Err(Problem::bad_request("The body is malformed.")),
        Err(_) => {
            let detail = "The body did not come in time.";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}
