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
    /// Exchanges name and password for a new token, if there are any.
    ///
    /// # Errors
    /// When the server refuses them, or does not answer.
    pub(crate) fn renew_token(
        &self,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        // A call may need a new token, for which it makes another call.
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

    /// Gets a token for a new stream: the one before may have expired since, and a stream keeps its
    /// token as long as it lives.
    pub(crate) async fn renew_token_of_stream(&self) -> Result<(), Status> {
        self.renew_token().await.map_err(|error| match error {
            Error::Status(status) | Error::DeadlineExceeded(status) => *status,
            Error::Config(why) => Status::unknown(why),
            error @ (Error::Contention(_) | Error::Http(_)) => Status::unknown(error.to_string()),
        })
    }
}
