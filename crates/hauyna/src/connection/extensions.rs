//! Values that the application attaches to a connection, one per type.

use crate::auth::{Claims, weight_of};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;

/// A map from types to values; see [`Connection::with_extensions`](super::Connection::with_extensions).
///
/// It begins with what tower layers, middleware and `identify` attached to the HTTP request.
#[derive(Default)]
pub struct Extensions {
    own: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// The request's; a value in `own` stands before one of the same type here.
    request: http::Extensions,
}

impl Extensions {
    /// Attaches a value; returns the one of the same type that was there.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        let old = self.own.insert(TypeId::of::<T>(), Box::new(value));
        let inherited = self.request.remove();
        old.and_then(|old| old.downcast().ok().map(|old| *old)).or(inherited)
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let own = self.own.get(&TypeId::of::<T>()).and_then(|own| own.downcast_ref());
        own.or_else(|| self.request.get())
    }

    /// The value of a type, to change it.
    pub fn get_mut<T: Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        let own = self.own.get_mut(&TypeId::of::<T>()).and_then(|own| own.downcast_mut());
        own.or_else(|| self.request.get_mut())
    }

    /// Takes a value out.
    pub fn remove<T: Send + Sync + 'static>(&mut self) -> Option<T> {
        let own = self.own.remove(&TypeId::of::<T>()).and_then(|own| own.downcast().ok());
        own.map(|own| *own).or_else(|| self.request.remove())
    }

    /// Takes what callbacks attached to a lost connection. Whose credentials these are says the new request.
    pub(super) fn take_over(&mut self, old: &mut Self) {
        let own = std::mem::take(&mut old.own);
        self.own.extend(own);
        if self.request.get::<Claims>().is_some() {
            self.own.remove(&TypeId::of::<Claims>());
        }
    }

    /// Bytes of what is attached: the values themselves, and what the common ones own.
    pub(super) fn weight(&self) -> usize {
        let own =
            self.own.values().map(|value| ENTRY + size_of_val(&**value) + owned(&**value)).sum::<usize>();
        let claims = self.request.get::<Claims>().map_or(0, Claims::weight);
        own + self.request.len() * ENTRY + claims
    }

    /// Attaches what was attached to a request; what callbacks attached stands before it.
    pub(crate) fn inherit(&mut self, request: http::Extensions) {
        self.request.extend(request);
    }
}

/// Bytes that a value owns besides its own, as far as its type is known here.
fn owned(value: &(dyn Any + Send + Sync)) -> usize {
    let text = value.downcast_ref::<String>().map(String::capacity);
    let text = text.or_else(|| value.downcast_ref::<Box<str>>().map(|text| text.len()));
    let bytes = text.or_else(|| value.downcast_ref::<Vec<u8>>().map(Vec::capacity));
    bytes.or_else(|| value.downcast_ref::<serde_json::Value>().map(weight_of)).unwrap_or(0)
}

/// Bytes of an entry in a map of types, and of the allocation of its value.
const ENTRY: usize = 96;

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("len", &(self.own.len() + self.request.len())).finish()
    }
}
