//! The macro by which the modules of the hub emit their system events.

/// Queues a system event for its listeners: `emit!(hub.events, UserOnline { user: user.clone() })`. The
/// fields are evaluated only if the kind of the event has a listener.
macro_rules! emit {
    ($listeners:expr, $kind:ident $($fields:tt)*) => {
        $listeners.emit($crate::event::SystemKind::$kind, || {
            $crate::event::SystemEvent::$kind $($fields)*
        })
    };
}

pub(crate) use emit;
