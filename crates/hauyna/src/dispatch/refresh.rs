//! The request `refresh`: new credentials for a connection that lives on.

use super::{Core, Next, Reply, unknown};
use crate::handler::Context;
use hauyna_protocol::RequestId;
use serde_json::json;

pub(super) fn refresh(core: &Core, id: Option<RequestId>, token: &str) -> Next {
    let Some(verify) = &core.endpoint().refresh else {
        return Next::Now(Reply::refused(id, unknown("this server does not offer this request")));
    };
    let revocations = core.hub().revocations.made();
    let verified = verify(Context::new(core.clone()), token.to_owned());
    let core = core.clone();
    Next::Later(Box::pin(async move {
        match verified.await.and_then(|identity| core.renew(identity, revocations)) {
            Err(reject) => Reply::refused(id, reject.into()),
            Ok(()) => {
                let expires_at =
                    core.expires_at().map(|at| json!({ "expires_at": crate::clock::to_unix_ms(at) }));
                Reply::of_event(id, Ok(expires_at))
            }
        }
    }))
}
