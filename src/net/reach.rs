//! Whether a host can be reached, for the doctor. No token is sent, and of the answer only the status is read.

use ureq::http;

use super::endpoint::Endpoint;
use super::{Net, NetError};

impl Net {
    /// Connects to the host of an endpoint and requests its root. Any answer will do, an error page or a redirect
    /// (which is not followed), too.
    ///
    /// # Errors
    /// There was no answer.
    pub(crate) fn reach(&self, endpoint: &Endpoint) -> Result<(), NetError> {
        let host = endpoint.host().to_owned();
        let refused = || NetError::Refused(format!("the request to {host} cannot be made"));
        let mut parts = endpoint.uri().clone().into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let uri = http::Uri::from_parts(parts).map_err(|_| refused())?;
        let request = http::Request::head(uri).body(()).map_err(|_| refused())?;
        self.agent(&host).run(request).map(|_| ()).map_err(|e| NetError::of_ureq(&e, &host))
    }
}
