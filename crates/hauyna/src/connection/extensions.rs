//! Values that the application attaches to a connection, one per type; and the lock they are behind, which neither waits
//! for itself nor lets a destructor of theirs unwind into the hub.

use crate::auth::{Claims, weight_of};
use crate::contain;
use crate::hub::HubCore;
use crate::metrics::Counter;
use parking_lot::{Mutex, MutexGuard};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A map from types to values; see [`Connection::with_extensions`](super::Connection::with_extensions).
///
/// It begins with what tower layers, middleware and `identify` attached to the HTTP request.
#[derive(Default)]
pub struct Extensions {
    /// Those of callbacks. Of one type, a value here stands before one of the identity, and that before one of the request.
    of_connection: Values,
    /// Those of `identify`, or of the last `refresh`.
    identity: http::Extensions,
    /// Those of tower layers and middleware.
    request: http::Extensions,
}

type Values = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

impl Extensions {
    /// Attaches a value; returns the one of the same type that was there.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        let old = self.remove();
        self.of_connection.insert(TypeId::of::<T>(), Box::new(value));
        old
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let own = self.of_connection.get(&TypeId::of::<T>()).and_then(|own| own.downcast_ref());
        own.or_else(|| self.identity.get()).or_else(|| self.request.get())
    }

    /// The value of a type, to change it.
    pub fn get_mut<T: Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        let own = self.of_connection.get_mut(&TypeId::of::<T>()).and_then(|own| own.downcast_mut());
        own.or_else(|| self.identity.get_mut()).or_else(|| self.request.get_mut())
    }

    /// Takes a value out.
    pub fn remove<T: Send + Sync + 'static>(&mut self) -> Option<T> {
        let own = self.of_connection.remove(&TypeId::of::<T>()).and_then(|own| own.downcast().ok());
        let (own, of_identity, of_request) =
            (own.map(|own| *own), self.identity.remove(), self.request.remove());
        own.or(of_identity).or(of_request)
    }

    /// Bytes of what is attached: the values themselves, and what the common ones own.
    pub(super) fn weight(&self) -> usize {
        let own = self
            .of_connection
            .values()
            .map(|value| ENTRY_BYTES + size_of_val(&**value) + owned(&**value))
            .sum::<usize>();
        let claims = self.identity.get::<Claims>().or_else(|| self.request.get());
        let claims = claims.map_or(0, Claims::weight);
        #[cfg(feature = "axum")]
        let target = crate::router::weight_of_target(&self.request);
        #[cfg(not(feature = "axum"))]
        let target = 0;
        own + (self.identity.len() + self.request.len()) * ENTRY_BYTES + claims + target
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
const ENTRY_BYTES: usize = 96;

impl Extensions {
    fn is_empty(&self) -> bool {
        self.of_connection.is_empty() && self.identity.is_empty() && self.request.is_empty()
    }

    /// Drops every value, whatever the others' destructors do.
    fn discard(&mut self, panics: &Counter) {
        contain::discard(panics, std::mem::take(&mut self.of_connection).into_values());
        contain::discard(panics, [std::mem::take(&mut self.identity), std::mem::take(&mut self.request)]);
    }
}

/// The values of one connection, behind their lock.
#[derive(Debug, Default)]
pub(crate) struct Attachments(Mutex<Extensions>);

thread_local! {
    /// Addresses of the locks that this thread holds while it calls the application.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Attachments {
    /// Lends the values.
    ///
    /// # Panics
    ///
    /// Where this is called inside itself for the same connection. Also where two threads wait for each other, each inside
    /// a call for the connection that the other one wants.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Extensions) -> R) -> R {
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

    /// Bytes of what is attached; 0 while somebody is at it.
    pub(super) fn weight(&self) -> usize {
        self.0.try_lock().map_or(0, |extensions| extensions.weight())
    }

    /// Begins with what was attached before there was a connection.
    pub(super) fn begin(&self, mut values: DetachedExtensions) {
        self.with(|all| *all = std::mem::take(&mut values.extensions));
    }

    /// Takes the values of new credentials instead of those of the old, also where they have none of a type. What callbacks
    /// attached stays before them, old claims aside.
    pub(super) fn renew(&self, identity: http::Extensions, panics: &Counter) {
        let replaced = self.with(|all| {
            if identity.get::<Claims>().is_some() {
                drop(all.of_connection.remove(&TypeId::of::<Claims>()));
            }
            std::mem::replace(&mut all.identity, identity)
        });
        contain::discard(panics, [replaced]);
    }

    /// Takes what callbacks attached to a lost connection. Whose credentials these are says the new request.
    pub(super) fn take_over(&self, old: &Self, panics: &Counter) {
        let inherited = old.with(|old| std::mem::take(&mut old.of_connection));
        let replaced = self.with(|new| {
            let mut replaced: Vec<_> =
                inherited.into_iter().filter_map(|(of, value)| new.of_connection.insert(of, value)).collect();
            if new.identity.get::<Claims>().or_else(|| new.request.get()).is_some() {
                replaced.extend(new.of_connection.remove(&TypeId::of::<Claims>()));
            }
            replaced
        });
        contain::discard(panics, replaced);
    }

    /// Drops the values of a connection that nobody has a handle on any more. That may be in the middle of a delivery to
    /// others, so a task of their own does it where there is a runtime.
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

/// Values that are attached to no connection, yet or any more. Their destructors are contained.
pub(crate) struct DetachedExtensions {
    extensions: Extensions,
    hub: Arc<HubCore>,
}

impl DetachedExtensions {
    /// Those of a handshake.
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

/// Exists while a thread is inside of [`Attachments::with`].
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

/// How long one call inside another waits for a second connection's values, before it takes that for a deadlock.
const DEADLOCK: Duration = Duration::from_secs(5);
