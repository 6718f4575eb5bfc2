//! A question to clients with the types of both sides, declared once: `Contract::client_request` describes it, `ask` asks
//! it.

use crate::connection::{ClientRequest, Connection};
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;

/// A question that the application asks its clients: the name, the type of what is asked, the type of the answer.
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
    /// A question by its name, the `event` of the protocol's `request`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<Data: Serialize, Reply> ClientRequestType<Data, Reply> {
    /// Asks a client; await it. As [`Connection::request`], with the types of this question.
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
        f.debug_tuple("Question").field(&self.name).finish()
    }
}
