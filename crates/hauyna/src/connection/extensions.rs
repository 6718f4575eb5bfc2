//! Values that the application attaches to a connection, one per type, and the lock that guards them. The
//! lock detects deadlocks, and a destructor of a value cannot unwind into the hub. `ColdState` holds them.

use crate::auth::{Claims, weight_of};
use crate::contain;
use crate::counters::Counter;
use crate::hub::HubCore;
use parking_lot::{Mutex, MutexGuard};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A map from types to values; see [`Connection::with_extensions`](super::Connection::with_extensions).
///
/// It starts with what tower layers, middleware and `identify` attached to the HTTP request.
#[derive(Default)]
pub struct Extensions {
    /// Values from callbacks. For each type, a value here hides one from the identity, and that hides one
    /// from the request.
    of_connection: Values,
    /// Values from `identify` or the last `refresh`.
    identity: http::Extensions,
    /// Values from tower layers and middleware.
    request: http::Extensions,
}

type Values = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

impl Extensions {
    /// Attaches a value. Returns the value of the same type that was there before.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        let old = self.remove();
        self.of_connection.insert(TypeId::of::<T>(), Box::new(value));
        old
    }

    /// Returns the value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let value = self.of_connection.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref());
        value.or_else(|| self.identity.get()).or_else(|| self.request.get())
    }

    /// Returns the value of a type for changing it.
    pub fn get_mut<T: Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        let value = self.of_connection.get_mut(&TypeId::of::<T>()).and_then(|value| value.downcast_mut());
        value.or_else(|| self.identity.get_mut()).or_else(|| self.request.get_mut())
    }

    /// Removes and returns the value of a type.
    pub fn remove<T: Send + Sync + 'static>(&mut self) -> Option<T> {
        let value = self.of_connection.remove(&TypeId::of::<T>()).and_then(|value| value.downcast().ok());
        let (of_connection, of_identity, of_request) =
            (value.map(|value| *value), self.identity.remove(), self.request.remove());
        of_connection.or(of_identity).or(of_request)
    }

    /// Returns the bytes of the attached values and of what values of common types own.
    pub(super) fn weight(&self) -> usize {
        let values = self
            .of_connection
            .values()
            .map(|value| ENTRY_BYTES + size_of_val(&**value) + owned_bytes(&**value))
            .sum::<usize>();
        let claims = self.identity.get::<Claims>().or_else(|| self.request.get());
        let claims = claims.map_or(0, Claims::weight);
        #[cfg(feature = "axum")]
        let target = crate::request::weight_of_target(&self.request);
        #[cfg(not(feature = "axum"))]
        let target = 0;
        values + (self.identity.len() + self.request.len()) * ENTRY_BYTES + claims + target
    }
}

/// Returns the bytes that a value owns on the heap, as far as its type is known here.
fn owned_bytes(value: &(dyn Any + Send + Sync)) -> usize {
    let text = value.downcast_ref::<String>().map(String::capacity);
    let text = text.or_else(|| value.downcast_ref::<Box<str>>().map(|text| text.len()));
    let bytes = text.or_else(|| value.downcast_ref::<Vec<u8>>().map(Vec::capacity));
    bytes.or_else(|| value.downcast_ref::<serde_json::Value>().map(weight_of)).unwrap_or(0)
}

/// Bytes of an entry in a map of types, and of the allocation of its value.
const ENTRY_BYTES: usize = 96;

impl Extensions {
    fn is_empty(&self) -> bool {
        self.of_connection.is_empty() && self.identity.is_empty() && self.request.is_empty()
    }

    /// Drops every value, even if the destructors of others panic.
    fn discard(&mut self, panics: &Counter) {
        contain::discard(panics, std::mem::take(&mut self.of_connection).into_values());
        contain::discard(panics, [std::mem::take(&mut self.identity), std::mem::take(&mut self.request)]);
    }
}

/// The values of one connection, behind their lock.
#[derive(Debug, Default)]
pub(super) struct Attachments(Mutex<Extensions>);

thread_local! {
    /// Addresses of the locks that this thread holds while it calls the application.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Attachments {
    /// Passes the values to `f`.
    ///
    /// # Panics
    ///
    /// If this is called inside itself for the same connection. Also if two threads wait for each other, each
    /// inside a call for the connection that the other one wants.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Extensions) -> R) -> R {
        let _held = Held::new(self);
        f(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Extensions> {
        if HELD.with_borrow(Vec::len) <= 1 {
            return self.0.lock();
        }
        let locked = self.0.try_lock_for(DEADLOCK);
        locked.unwrap_or_else(|| panic!("two calls of `with_extensions` inside others wait for each other"))
    }

    /// Returns the bytes of the attached values; 0 while the lock is held.
    pub(super) fn weight(&self) -> usize {
        self.0.try_lock().map_or(0, |extensions| extensions.weight())
    }

    /// Starts with the values that were attached before the connection existed.
    pub(super) fn begin(&self, mut values: DetachedExtensions) {
        self.with(|all| *all = std::mem::take(&mut values.extensions));
    }

    /// Replaces the values of the old credentials by those of new credentials, also where the new ones have
    /// no value of a type. Values from callbacks stay and keep their precedence, except old claims.
    pub(super) fn renew(&self, identity: http::Extensions, panics: &Counter) {
        let replaced = self.with(|all| {
            if identity.get::<Claims>().is_some() {
                drop(all.of_connection.remove(&TypeId::of::<Claims>()));
            }
            std::mem::replace(&mut all.identity, identity)
        });
        contain::discard(panics, [replaced]);
    }

    /// Takes over what callbacks attached to a lost connection. What was attached to this connection during
    /// the resume is newer and stays. Claims of the new request replace old ones.
    pub(super) fn take_over(&self, old: &Self, panics: &Counter) {
        let mut values = old.with(|old| std::mem::take(&mut old.of_connection));
        self.with(|new| {
            let has_claims = new.identity.get::<Claims>().or_else(|| new.request.get()).is_some();
            let is_replaced = |of: &TypeId| {
                new.of_connection.contains_key(of) || has_claims && *of == TypeId::of::<Claims>()
            };
            let kept: Vec<TypeId> = values.keys().filter(|of| !is_replaced(of)).copied().collect();
            new.of_connection.extend(kept.iter().filter_map(|of| values.remove_entry(of)));
        });
        contain::discard(panics, values.into_values());
    }

    /// Drops the values of a connection after its last handle was dropped. That may happen in the middle of a
    /// delivery to other connections, so a separate task does it if there is a runtime.
    pub(super) fn discard(self, hub: &Arc<HubCore>) {
        let extensions = self.0.into_inner();
        if extensions.is_empty() {
            return;
        }
        let values = DetachedExtensions { extensions, hub: hub.clone() };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(values) });
        }
    }
}

/// Values that are not attached to a connection yet, or not any more. Panics of their destructors are
/// contained.
pub(crate) struct DetachedExtensions {
    extensions: Extensions,
    hub: Arc<HubCore>,
}

impl DetachedExtensions {
    /// Creates the values of a handshake.
    pub(crate) fn new(hub: &Arc<HubCore>, request: http::Extensions, identity: http::Extensions) -> Self {
        Self { extensions: Extensions { request, identity, ..Extensions::default() }, hub: hub.clone() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extensions.is_empty()
    }
}

impl Drop for DetachedExtensions {
    fn drop(&mut self) {
        self.extensions.discard(&self.hub.metrics.panics);
    }
}

/// A mark that this thread is inside [`Attachments::with`].
struct Held(usize);

impl Held {
    fn new(attachments: &Attachments) -> Self {
        let address = std::ptr::from_ref(attachments).addr();
        let is_inside = HELD.with_borrow(|held| held.contains(&address));
        assert!(
            !is_inside,
            "`with_extensions` was called inside itself for one connection, and would never return"
        );
        HELD.with_borrow_mut(|held| held.push(address));
        Self(address)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.retain(|address| *address != self.0));
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.of_connection.len() + self.identity.len() + self.request.len();
        f.debug_struct("Extensions").field("len", &len).finish()
    }
}

/// How long a nested call waits for the values of a second connection before it counts as a deadlock.
const DEADLOCK: Duration = Duration::from_secs(5);
