//! Exchanges the name and the password for tokens.
//!
//! Source: etcd v3.7.1 client/v3/client.go `getToken`.

use crate::Error;
use crate::call::Client;
use crate::call::Policy::Once;
use crate::credentials::AUTHENTICATE;
use proto::etcdserverpb as pb;
use std::pin::Pin;
use tonic::Status;

impl Client {
    /// Exchanges name and password for a new token, if they are configured.
    ///
    /// # Errors
    /// When the server refuses them, or does not answer.
    pub(crate) fn renew_token(
        &self,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        // Boxed because of the recursion: a call may renew the token, which is a call itself.
        Box::pin(self.authenticate())
    }

    async fn authenticate(&self) -> Result<(), Error> {
        let Some((name, password)) = self.credentials.user.clone() else { return Ok(()) };
        let request = pb::AuthenticateRequest { name, password };
        let answer: Result<pb::AuthenticateResponse, Error> =
            self.unary(AUTHENTICATE, Once, request).await;
        let token = match answer {
            Ok(answer) => Some(answer.token),
            // Without authentication no token is needed.
            Err(e) if e.message() == "etcdserver: authentication is not enabled" => None,
            Err(error) => return Err(error),
        };
        self.credentials.set(token);
        Ok(())
    }

    /// Gets a new token for a stream. The current one may have expired, and a stream cannot change
    /// its token later.
    pub(crate) async fn renew_token_of_stream(&self) -> Result<(), Status> {
        self.renew_token().await.map_err(|error| match error {
            Error::Status(status) | Error::DeadlineExceeded(status) => *status,
            Error::Config(why) => Status::unknown(why),
            error @ (Error::Contention(_)
            | Error::Http(_)
            | Error::NoGreaterRevision
            | Error::Snapshot(_)) => Status::unknown(error.to_string()),
        })
    }
}
