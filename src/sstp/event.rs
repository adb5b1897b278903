//! What a call tells its owner.

use super::binding::{BindingFailure, Strength};
use super::wire::{self, MessageType, Status};

/// Something happened to the call. Each comes at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Call Connect Ack was sent: the lower layer of PPP is up.
    CallStarted,
    /// The Call Connected holds: data may pass.
    Bound(Strength),
    /// The farewell began: the lower layer of PPP is down. A call that ends without one tells only `Finished`.
    Disconnecting { by_peer: bool },
    /// The call is over; the TLS stream can be closed when all is flushed.
    Finished(End),
}

/// Why a call ended: the first reason, when there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    #[error("closed by us")]
    Closed,
    #[error("the client disconnected{}", with(*status))]
    PeerDisconnected { status: Option<Status> },
    #[error("the client aborted{}", with(*status))]
    PeerAborted { status: Option<Status> },
    /// Where sstpc ends, which judges our certificate after the HTTP response.
    #[error("the client left before its Call Connect Request")]
    ClosedBeforeCall,
    #[error("the client closed the connection")]
    ConnectionClosed,
    #[error("crypto binding: {0}")]
    BindingFailed(BindingFailure),
    #[error(transparent)]
    ProtocolViolation(Violation),
    #[error("no {awaited} in time")]
    NegotiationTimeout { awaited: MessageType },
    #[error("nothing was received for two hello intervals")]
    HelloTimeout,
    #[error("more than {limit} bad Call Connect Requests")]
    TooManyNaks { limit: u8 },
    #[error(transparent)]
    StreamLost(wire::Error),
}

impl End {
    pub(super) fn is_by_peer(&self) -> bool {
        match self {
            Self::PeerDisconnected { .. }
            | Self::PeerAborted { .. }
            | Self::ClosedBeforeCall
            | Self::ConnectionClosed => true,
            Self::Closed
            | Self::BindingFailed(_)
            | Self::ProtocolViolation(_)
            | Self::NegotiationTimeout { .. }
            | Self::HelloTimeout
            | Self::TooManyNaks { .. }
            | Self::StreamLost(_) => false,
        }
    }
}

/// A message that the protocol does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("{message} is not allowed in {state}")]
    Unaccepted { message: MessageType, state: &'static str },
    #[error("message type {got:#06x} is not known")]
    UnknownMessage { got: u16 },
    #[error("the attributes of {message} cannot be read")]
    Attributes { message: MessageType },
}

impl Violation {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Unaccepted { .. } => Status::UNACCEPTED_FRAME_RECEIVED,
            Self::UnknownMessage { .. } | Self::Attributes { .. } => Status::INVALID_FRAME_RECEIVED,
        }
    }
}

fn with(status: Option<Status>) -> String {
    status.map(|status| format!(": {status}")).unwrap_or_default()
}
