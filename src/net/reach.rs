//! Whether a host can be reached: for the doctor. No token is sent, and nothing is read but the status.

use ureq::http;

use super::place::Place;
use super::{Net, NetError};

/// Connects to the host of `place` and asks for its root. Any answer will do, an error page or a
/// redirect (which is not followed), too.
///
/// # Errors
/// Why there was no answer.
pub(crate) fn reach(net: &Net, place: &Place) -> Result<(), NetError> {
    let host = place.host().to_owned();
    let wrong = || NetError::Refused(format!("the request to {host} cannot be made"));
    let mut parts = place.uri().clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let uri = http::Uri::from_parts(parts).map_err(|_| wrong())?;
    let request = http::Request::head(uri).body(()).map_err(|_| wrong())?;
    net.agent(&host).run(request).map(|_| ()).map_err(|e| NetError::of_ureq(&e, &host))
}
