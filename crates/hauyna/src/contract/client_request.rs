//! A client request with the types of its data and its reply, declared once: `Contract::client_request`
//! describes it, and `ask` sends it.

use crate::connection::{ClientRequest, Connection};
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;

/// A request of the application to its clients: the name, the type of the data, and the type of the reply.
///
/// # Examples
///
/// ```
/// use hauyna::Context;
/// use hauyna::contract::{Contract, ClientRequestType};
/// use schemars::JsonSchema;
/// use serde::Serialize;
///
/// #[derive(Serialize, JsonSchema)]
/// struct Confirm { text: String }
///
/// const CONFIRM: ClientRequestType<Confirm, bool> = ClientRequestType::new("confirm");
///
/// let contract = Contract::new("Board", "1.0.0").client_request(CONFIRM);
///
/// async fn clear(cx: Context, _: hauyna::Value) -> hauyna::Result<bool> {
///     CONFIRM.ask(&cx.connection(), &Confirm { text: "Everything?".into() }).await
/// }
/// ```
pub struct ClientRequestType<Data, Reply> {
    name: &'static str,
    types: PhantomData<fn(Data) -> Reply>,
}

impl<Data, Reply> ClientRequestType<Data, Reply> {
    /// Creates a client request by its name, which is the `event` of the protocol's `request`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<Data: Serialize, Reply> ClientRequestType<Data, Reply> {
    /// Sends the request to a client, as [`Connection::request`] with the types declared here; await it for
    /// the reply.
    pub fn ask(&self, connection: &Connection, data: &Data) -> ClientRequest<Reply> {
        connection.request(self.name, data)
    }
}

impl<Data, Reply> Clone for ClientRequestType<Data, Reply> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Data, Reply> Copy for ClientRequestType<Data, Reply> {}

impl<Data, Reply> fmt::Debug for ClientRequestType<Data, Reply> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientRequestType").field(&self.name).finish()
    }
}
