//! Decides about one upgrade: the rules of RFC 6455, the page's origin, the limits, who the client is. The
//! result is a connection ready to be opened, or an HTTP refusal. `accept` and `service` call this.

use super::middleware::NameOrigin;
use super::{Admitted, Next, Routes};
use crate::auth::{Credentials, Identity};
use crate::connection::{ConnectInfo, ConnectionParts, DetachedExtensions};
use crate::contain::{self, Panicked};
use crate::driver::{Opening, SessionAnnouncement, UnopenedConnection, register};
use crate::error::Reject;
use crate::handler::{Endpoint, Mode};
use crate::hub::{HubCore, Place};
use crate::request::{ConnectRequest, check_utf8, log_refused, without_tokens};
use crate::session::{Claim, OwnExpiry, PresentedToken, RestoredIdentity};
use hauyna_broker::{UserId, Wire};
use hauyna_protocol::{Encoding, ErrorType};
use hauyna_websocket::Negotiated;
use hauyna_websocket::handshake::{self, Refusal, Upgrade};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tracing::Instrument;

/// An upgrade that was admitted.
pub(super) struct Admission {
    endpoint: Arc<Endpoint>,
    user: UserId,
    arrival: ConnectInfo,
    place: Place,
    credentials: Credentials,
    /// The session that the connection resumes.
    claim: Option<Claim>,
    /// Values attached to the request, and by `identify`.
    attached: DetachedExtensions,
    session_key: Option<Box<str>>,
    pub(super) upgrade: Upgrade,
    encoding: Option<Encoding>,
    negotiated: Option<Negotiated>,
}

/// Why an upgrade was refused.
pub(super) enum AdmissionError {
    Handshake(Refusal),
    Reject(Reject),
}

/// Decides about an upgrade for a route.
pub(super) async fn admit(
    routes: &Arc<Routes>,
    endpoint: &Arc<Endpoint>,
    request: ConnectRequest,
) -> Result<Admission, AdmissionError> {
    let route = endpoint.route.as_str();
    let span = tracing::debug_span!(target: "hauyna::server", "handshake", route, peer = ?request.peer());
    let result = admit_request(routes, endpoint, request).instrument(span).await;
    if let Err(refused) = &result {
        let status = refused.status().as_u16();
        tracing::debug!(target: "hauyna::server", route, status, "refused");
        routes.hub.0.metrics.handshakes_refused.increment();
    }
    result
}

async fn admit_request(
    routes: &Arc<Routes>,
    endpoint: &Arc<Endpoint>,
    request: ConnectRequest,
) -> Result<Admission, AdmissionError> {
    let upgrade = handshake::check(request.parts()).map_err(AdmissionError::Handshake)?;
    check_utf8(request.uri())?;
    if !endpoint.origins.allow(request.headers()) {
        log_refused(endpoint.route.as_str(), request.headers());
        return Err(Reject::denied("pages of this origin may not connect").into());
    }
    let hub = &routes.hub.0;
    if routes.hub.is_stopping() {
        return Err(unavailable("the server is shutting down").into());
    }
    let address = contain_panic(hub, async { Ok(hub.limits.address(&request)) }).await?;
    if address.is_none() && hub.limits.has_limit_of_address() {
        log_no_address();
    }
    if !is_resuming(hub, &request) {
        hub.limits.check(None, address).map_err(|limit| hub.limits.refusal(limit))?;
    }
    let next = Next::new(routes.clone(), endpoint.clone());
    let Admitted { request, user, mut credentials, name_origin, session_key, attached } =
        contain_panic(hub, next.run(request)).await?;
    let encoding = match endpoint.mode {
        Mode::Protocol => upgrade.protocols().find_map(Encoding::from_subprotocol),
        Mode::Echo => None,
    };
    let negotiated = endpoint.deflate.as_ref().and_then(|deflate| deflate.negotiate(request.headers()));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = without_tokens(target, endpoint.token_parameter.as_deref());
    let arrival = ConnectInfo::new(request.peer(), address, &target);
    let is_named = name_origin == NameOrigin::Application;
    let arrival = if is_named { arrival } else { arrival.with_generated_name() };
    let token = request.resume_token().map(Cow::into_owned);
    let scope = session_key.as_deref().unwrap_or(arrival.path());
    let attached = DetachedExtensions::new(hub, request.into_extensions(), attached);
    let share = hub.share_user(&user);
    if let Some(share) = &share {
        // Of what is published for the user after the answer, nothing is missed.
        share.until_relayed().await.map_err(|_| unavailable("the broker cannot be reached"))?;
    }
    let expiry = OwnExpiry::of(&credentials);
    let presented = token.as_deref().map(|token| PresentedToken { token, endpoint, scope, expiry });
    // Before the place is taken: the lost connection may still hold it.
    let claim = match presented {
        Some(presented) if encoding.is_some() => hub.sessions.claim(hub, &user, presented).await,
        _ => None,
    };
    // A resumed session brings its credentials, as they are then.
    if let (None, NameOrigin::Session(_)) = (&claim, name_origin) {
        let of_session = credentials_of_session(hub, &user, presented.as_ref())?;
        credentials.expiry = credentials.expiry.or(of_session.expiry);
        credentials.token = credentials.token.or(of_session.token);
    }
    // Once more: middleware and the lost connection may have made it wait.
    if let Some(expiry) = &credentials.expiry {
        expiry.check()?;
    }
    let place = hub.take_place(&user, address).map_err(|limit| hub.limits.refusal(limit))?;
    let endpoint = endpoint.clone();
    Ok(Admission {
        endpoint,
        user,
        arrival,
        place: place.with_share(share),
        credentials,
        claim,
        attached,
        session_key,
        upgrade,
        encoding,
        negotiated,
    })
}

/// Runs after the last middleware: identifies the client and checks that one more connection is within the
/// limits.
pub(super) async fn check_identity(
    routes: &Routes,
    endpoint: &Arc<Endpoint>,
    request: ConnectRequest,
) -> Result<Admitted, Reject> {
    let hub = &routes.hub.0;
    let revocations = hub.revocations.made();
    let identity = match &endpoint.identify {
        None => Identity::anonymous(),
        Some(identify) => identify(request.clone()).await?,
    };
    let session_key = match &endpoint.session_key {
        Some(key) => Some(key(&request)),
        None => request.whole_path().map(str::to_owned),
    };
    let session_key = session_key.map(String::into_boxed_str);
    let credentials = Credentials { expiry: identity.expiry, token: identity.token, revocations };
    let (user, name_origin) = match identity.user {
        Some(name) => {
            let user = UserId::new(&name).map_err(|error| Reject::invalid(error.to_string()))?;
            (user, NameOrigin::Application)
        }
        None => {
            let scope = session_key.as_deref().unwrap_or(request.uri().path());
            let token = request.resume_token();
            let expiry = OwnExpiry::of(&credentials);
            let presented = token.as_deref().map(|token| PresentedToken { token, endpoint, scope, expiry });
            anonymous(hub, presented.as_ref())?
        }
    };
    if let Some(expiry) = &credentials.expiry {
        expiry.check()?;
    }
    hub.check_revoked(&user, &credentials)?;
    let limits = &hub.limits;
    if !is_resuming(hub, &request) {
        limits.check(Some(&user), None).map_err(|limit| limits.refusal(limit))?;
    }
    Ok(Admitted { request, user, credentials, name_origin, session_key, attached: identity.attached })
}

/// Whether it resumes the session of a connection that still seems alive, so that it needs no place of its
/// own.
fn is_resuming(hub: &HubCore, request: &ConnectRequest) -> bool {
    request.resume_token().is_some_and(|token| hub.sessions.is_live(hub, &token))
}

/// Returns the name for a client without one: that of the session it resumes, else a new one.
fn anonymous(hub: &HubCore, presented: Option<&PresentedToken<'_>>) -> Result<(UserId, NameOrigin), Reject> {
    let known = presented.and_then(|presented| hub.sessions.identity_of_session(hub, presented));
    let Some(RestoredIdentity { user, credentials: of_session }) = known else {
        let name = format!("anonymous_{:016x}", crate::random::u64());
        let user = UserId::new(&name).map_err(|error| Reject::invalid(error.to_string()))?;
        return Ok((user, NameOrigin::Generated));
    };
    Ok((user, NameOrigin::Session(of_session.expiry)))
}

/// Returns the credentials of the session that a name came from, which the client does not get. The session
/// has to prove the name still: it may have ended meanwhile, and its client may have been told to stay away.
///
/// # Errors
///
/// `unavailable`: the client gets another name when it tries again.
fn credentials_of_session(
    hub: &HubCore,
    user: &UserId,
    presented: Option<&PresentedToken<'_>>,
) -> Result<Credentials, Reject> {
    let known = presented.and_then(|presented| hub.sessions.identity_of_session(hub, presented));
    let known = known.filter(|known| known.user == *user);
    known
        .map(|known| known.credentials)
        .ok_or_else(|| unavailable("the session has ended meanwhile: connect again"))
}

/// Runs a decision of the application; if it panics, only this client is refused.
async fn contain_panic<T>(
    hub: &HubCore,
    decision: impl Future<Output = Result<T, Reject>>,
) -> Result<T, Reject> {
    let mut decision = pin!(Some(decision));
    let decided = poll_fn(|cx| {
        let Some(polled) = decision.as_mut().as_pin_mut() else { return Poll::Ready(Err(Panicked)) };
        match contain::call(&hub.metrics.panics, || polled.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    });
    let decided = decided.await.unwrap_or_else(|_| {
        let (kind, status) = (ErrorType::InternalError, StatusCode::INTERNAL_SERVER_ERROR);
        Err(Reject::new(kind, status, "internal error"))
    });
    let _ = contain::call(&hub.metrics.panics, || decision.set(None));
    decided
}

impl Admission {
    pub(super) fn protocol(&self) -> Option<&'static str> {
        self.encoding.map(Encoding::subprotocol)
    }

    pub(super) fn extensions(&self) -> Option<&str> {
        self.negotiated.as_ref().map(|negotiated| negotiated.response.as_str())
    }

    /// Registers the connection, before the answer is sent.
    pub(super) fn register(self, routes: &Routes) -> UnopenedConnection {
        let hub = routes.hub.0.clone();
        let id = self.place.id();
        // A peer with a smaller window than the server's gets plain frames, which is always allowed (RFC 7692
        // §6).
        let deflate = self.negotiated.as_ref().is_some_and(|negotiated| negotiated.window.fits(usize::MAX));
        let particulars = ConnectionParts {
            id,
            shard: hub.choose_shard(id.number()),
            user: self.user,
            wire: Wire::new(self.encoding.unwrap_or(Encoding::Json), deflate),
            connect_info: self.arrival,
            attached: Some(self.attached),
            session_key: self.session_key,
        };
        register(Opening {
            hub,
            endpoint: self.endpoint,
            particulars,
            limit_place: self.place,
            inflate: self.negotiated.map(|negotiated| negotiated.inflate),
            credentials: self.credentials,
            claim: self.claim,
            session: if self.encoding.is_some() {
                SessionAnnouncement::Announce
            } else {
                SessionAnnouncement::Plain
            },
        })
    }
}

impl AdmissionError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Handshake(refusal) => refusal.response().status(),
            Self::Reject(reject) => reject.status,
        }
    }

    /// Returns the whole answer: a fixed text or the application's own as JSON, and nothing from the request.
    pub(super) fn response(&self) -> Response<String> {
        let reject = match self {
            Self::Handshake(refusal) => return refusal.response().map(str::to_owned),
            Self::Reject(reject) => reject,
        };
        let mut body = serde_json::json!({ "error_type": reject.error.as_str(), "message": reject.message });
        if let Some(details) = &reject.details {
            body["details"] = details.clone();
        }
        let body = body.to_string();
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = reject.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if reject.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1 requires a challenge.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if reject.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<Reject> for AdmissionError {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

fn log_no_address() {
    crate::log::limited("no address", || {
        let remedy = "serve with connect info, or set `HubBuilder::client_address`";
        tracing::warn!(target: "hauyna::server", remedy, "a client without an address is not limited by it");
    });
}

fn unavailable(text: &'static str) -> Reject {
    Reject::new(ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE, text)
}
