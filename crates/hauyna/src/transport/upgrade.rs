//! Turns hyper's upgraded connection into a [`Link`]: plain TCP is taken out of hyper, so that its buffers
//! and its task are freed; everything else stays behind hyper's own type. `router` calls it.

use super::{Link, Rewound};
use http::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

pub(crate) use hyper::upgrade::OnUpgrade;

/// Returns the upgrade that follows the answer to this request, if the server offers one.
pub(crate) fn on_upgrade<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    request.extensions_mut().remove::<OnUpgrade>()
}

/// Takes over the connection.
///
/// # Errors
///
/// The connection broke between the answer and the upgrade.
pub(crate) async fn upgraded(upgrade: OnUpgrade) -> Result<Link, hyper::Error> {
    Ok(link(upgrade.await?))
}

fn link(upgraded: Upgraded) -> Link {
    // `axum::serve` and hyper-util's automatic builder wrap the stream once more than hyper does.
    let upgraded = match upgraded.downcast::<TokioIo<Rewound<TcpStream>>>() {
        Ok(parts) => {
            let (unread, stream) = parts.io.into_inner().into_parts();
            return Link::tcp(stream, [&*parts.read_buf, &*unread].concat());
        }
        Err(upgraded) => upgraded,
    };
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Link::tcp(parts.io.into_inner(), parts.read_buf.into()),
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Link::tcp(parts.io.into_inner(), parts.read_buf.into()),
        Err(upgraded) => Link::other(Box::new(TokioIo::new(upgraded)), Vec::new()),
    }
}
