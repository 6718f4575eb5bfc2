//! The request `refresh`: verifies new credentials for a live connection. `dispatch` calls it.

use super::{Core, Next, Reply, unknown_event};
use crate::handler::Context;
use hauyna_protocol::RequestId;
use serde_json::json;

pub(super) fn refresh(core: &Core, id: Option<RequestId>, token: &str) -> Next {
    let Some(verify) = &core.endpoint().refresh else {
        return Next::Now(Reply::refused(id, unknown_event("this server does not offer this request")));
    };
    let revocations = core.hub().revocations.made();
    let verified = verify(Context::new(core.clone()), token.to_owned());
    let core = core.clone();
    Next::Later(Box::pin(async move {
        match verified.await.and_then(|identity| core.credentials().renew(identity, revocations)) {
            Err(reject) => Reply::refused(id, reject.into()),
            Ok(()) => {
                let expiry = core.credentials().expires_at().map(|at| {
                    let (expires_at, expires_in) = (crate::clock::to_unix_ms(at), crate::clock::ms_until(at));
                    json!({ "expires_at": expires_at, "expires_in": expires_in })
                });
                Reply::of_event(id, Ok(expiry))
            }
        }
    }))
}
