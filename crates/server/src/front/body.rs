//! The body of a request, whole and bounded.

use super::Problem;
use bytes::Bytes;
use clarion_protocol::Refusal;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
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
    let too_large = || Refusal::too_large("body", bytes_max as u64).into();
    // One that says so itself is not read at all, nor asked for where it waits for a 100.
    if request.body().size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), bytes_max).collect();
    match tokio::time::timeout(time, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("The body is malformed.")),
        Err(_) => {
            let detail = "The body did not come in time.";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}
