//! The server's call: its states, what each message does in each of them, and its timers.
//!
//! Goes in: a state and what arrived. Comes out: the one thing to do. Doing it is not here. Ruled by [MS-SSTP] 3.1.1
//! (states of both roles), 3.3.1 (states of the server), 3.1.2 and 3.3.2 (timers), 3.1.5 and 3.3.5 (messages).

use super::binding::Binding;
use super::event::{End, Violation};
use super::frame::FrameKind;
use super::wire::{Control, Fault, Message, MessageType, Status, StatusInfo};
use std::time::Duration;

/// Where the call is. The states before `Server_Connect_Request_Pending` belong to TLS and HTTP.
pub(super) enum State {
    /// The HTTP response was sent; Call Connect Request has to come.
    ConnectRequestPending { binding: Box<Binding>, naks: u8 },
    /// Call Connect Ack was sent; PPP logs in; a Call Connected that holds has to come.
    CallConnectedPending(Box<Binding>),
    /// Data may pass.
    CallConnected,
    /// One of the farewells; the end is the reason of the first.
    Ending(Farewell, End),
    /// Nothing can happen any more.
    Finished,
}

/// The states that tear a call down. [MS-SSTP] 3.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names of the specification")]
pub(super) enum Farewell {
    /// We sent Call Abort; the client has to send one too.
    AbortPending,
    /// Both sent Call Abort; the client gets time to close.
    AbortTimeoutPending,
    /// We sent Call Disconnect; its Ack has to come.
    DisconnectAckPending,
    /// We acknowledged a Call Disconnect; the client gets time to close.
    DisconnectTimeoutPending,
}

/// What arrived in a control packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal<'a> {
    CallConnectRequest,
    BadCallConnectRequest(StatusInfo<'a>),
    CallConnectAck,
    CallConnectNak,
    /// Well-formed or not: the binding looks at it.
    CallConnected(Control<'a>),
    CallAbort(Option<Status>),
    CallDisconnect(Option<Status>),
    CallDisconnectAck,
    EchoRequest,
    EchoResponse,
    Invalid(Violation),
}

/// What a signal does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action<'a> {
    Ignore,
    /// Send Call Connect Ack, start PPP, enter `CallConnectedPending`.
    Acknowledge,
    /// Send Call Connect Nak, or Call Abort when there were too many.
    Refuse(StatusInfo<'a>),
    /// Look at the crypto binding.
    Judge(Control<'a>),
    AnswerEcho,
    /// Send Call Abort, enter `AbortPending`.
    Abort(Violation),
    /// Answer a Call Abort with ours, enter `AbortTimeoutPending`.
    ReturnAbort(Option<Status>),
    /// The client answered our Call Abort: enter `AbortTimeoutPending`.
    AbortReturned,
    /// Send Call Disconnect Ack, enter `DisconnectTimeoutPending`.
    AcknowledgeDisconnect(Option<Status>),
    Finish,
}

impl<'a> Signal<'a> {
    pub(super) fn of(control: Control<'a>) -> Self {
        let status = |info: Option<StatusInfo<'_>>| info.map(|info| info.status);
        match Message::parse(control) {
            Ok(Message::CallConnectRequest) => Self::CallConnectRequest,
            Ok(Message::CallConnectAck(_)) => Self::CallConnectAck,
            Ok(Message::CallConnectNak(_)) => Self::CallConnectNak,
            Ok(Message::CallConnected(_)) => Self::CallConnected(control),
            Ok(Message::CallAbort(info)) => Self::CallAbort(status(info)),
            Ok(Message::CallDisconnect(info)) => Self::CallDisconnect(status(info)),
            Ok(Message::CallDisconnectAck) => Self::CallDisconnectAck,
            Ok(Message::EchoRequest) => Self::EchoRequest,
            Ok(Message::EchoResponse) => Self::EchoResponse,
            Err(Fault::UnknownMessage { got }) => Self::Invalid(Violation::UnknownMessage { got }),
            Err(Fault::Attributes { message, complaint }) => match message {
                MessageType::CallConnectRequest => Self::BadCallConnectRequest(complaint),
                MessageType::CallConnected => Self::CallConnected(control),
                MessageType::CallConnectAck
                | MessageType::CallConnectNak
                | MessageType::CallAbort
                | MessageType::CallDisconnect
                | MessageType::CallDisconnectAck
                | MessageType::EchoRequest
                | MessageType::EchoResponse => Self::Invalid(Violation::Attributes { message }),
            },
        }
    }
}

impl State {
    /// The state table, [MS-SSTP] 3.3.5.2 and 3.1.5.
    ///
    /// One thing is milder than the letter: an Echo Request is answered before the call is connected, because clients
    /// whose user still types a one-time code send it then.
    pub(super) fn action<'a>(&self, signal: Signal<'a>) -> Action<'a> {
        let unaccepted = |message| Action::Abort(Violation::Unaccepted { message, state: self.name() });
        match self {
            Self::ConnectRequestPending { .. } => match signal {
                Signal::CallConnectRequest => Action::Acknowledge,
                Signal::BadCallConnectRequest(complaint) => Action::Refuse(complaint),
                Signal::CallConnected(_) => unaccepted(MessageType::CallConnected),
                Signal::CallConnectAck => unaccepted(MessageType::CallConnectAck),
                Signal::CallConnectNak => unaccepted(MessageType::CallConnectNak),
                Signal::CallAbort(status) => Action::ReturnAbort(status),
                Signal::CallDisconnect(status) => Action::AcknowledgeDisconnect(status),
                Signal::CallDisconnectAck => unaccepted(MessageType::CallDisconnectAck),
                Signal::EchoRequest => unaccepted(MessageType::EchoRequest),
                Signal::EchoResponse => unaccepted(MessageType::EchoResponse),
                Signal::Invalid(violation) => Action::Abort(violation),
            },
            Self::CallConnectedPending(_) => match signal {
                Signal::CallConnectRequest | Signal::BadCallConnectRequest(_) => {
                    unaccepted(MessageType::CallConnectRequest)
                }
                Signal::CallConnected(control) => Action::Judge(control),
                Signal::CallConnectAck => unaccepted(MessageType::CallConnectAck),
                Signal::CallConnectNak => unaccepted(MessageType::CallConnectNak),
                Signal::CallAbort(status) => Action::ReturnAbort(status),
                Signal::CallDisconnect(status) => Action::AcknowledgeDisconnect(status),
                Signal::CallDisconnectAck => unaccepted(MessageType::CallDisconnectAck),
                Signal::EchoRequest => Action::AnswerEcho,
                Signal::EchoResponse => unaccepted(MessageType::EchoResponse),
                Signal::Invalid(violation) => Action::Abort(violation),
            },
            Self::CallConnected => match signal {
                Signal::CallConnectRequest | Signal::BadCallConnectRequest(_) => {
                    unaccepted(MessageType::CallConnectRequest)
                }
                Signal::CallConnected(_) => unaccepted(MessageType::CallConnected),
                Signal::CallConnectAck => unaccepted(MessageType::CallConnectAck),
                Signal::CallConnectNak => unaccepted(MessageType::CallConnectNak),
                Signal::CallAbort(status) => Action::ReturnAbort(status),
                Signal::CallDisconnect(status) => Action::AcknowledgeDisconnect(status),
                Signal::CallDisconnectAck => unaccepted(MessageType::CallDisconnectAck),
                Signal::EchoRequest => Action::AnswerEcho,
                // That something was received has restarted the hello timer already.
                Signal::EchoResponse => Action::Ignore,
                Signal::Invalid(violation) => Action::Abort(violation),
            },
            Self::Ending(farewell, _) => farewell.action(signal),
            Self::Finished => Action::Ignore,
        }
    }

    /// Whether a frame of this kind may pass, in either direction.
    pub(super) fn passes(&self, kind: FrameKind) -> bool {
        match (self, kind) {
            (Self::CallConnectedPending(_), FrameKind::Control)
            | (Self::CallConnected, FrameKind::Control | FrameKind::Network) => true,
            (Self::CallConnectedPending(_), FrameKind::Network)
            | (
                Self::ConnectRequestPending { .. } | Self::Ending(..) | Self::Finished,
                FrameKind::Control | FrameKind::Network,
            ) => false,
        }
    }

    /// Whether there is a call to close.
    pub(super) fn is_live(&self) -> bool {
        match self {
            Self::ConnectRequestPending { .. } | Self::CallConnectedPending(_) | Self::CallConnected => true,
            Self::Ending(..) | Self::Finished => false,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::ConnectRequestPending { .. } => "ConnectRequestPending",
            Self::CallConnectedPending(_) => "CallConnectedPending",
            Self::CallConnected => "CallConnected",
            Self::Ending(Farewell::AbortPending, _) => "AbortPending",
            Self::Ending(Farewell::AbortTimeoutPending, _) => "AbortTimeoutPending",
            Self::Ending(Farewell::DisconnectAckPending, _) => "DisconnectAckPending",
            Self::Ending(Farewell::DisconnectTimeoutPending, _) => "DisconnectTimeoutPending",
            Self::Finished => "Finished",
        }
    }
}

impl Farewell {
    fn action<'a>(self, signal: Signal<'a>) -> Action<'a> {
        match (self, signal) {
            (Self::AbortPending, Signal::CallAbort(_)) => Action::AbortReturned,
            (Self::DisconnectAckPending, Signal::CallAbort(status)) => Action::ReturnAbort(status),
            (Self::DisconnectAckPending, Signal::CallDisconnect(status)) => Action::AcknowledgeDisconnect(status),
            (Self::DisconnectAckPending, Signal::CallDisconnectAck) => Action::Finish,
            (
                Self::AbortTimeoutPending | Self::DisconnectTimeoutPending,
                Signal::CallAbort(_) | Signal::CallDisconnect(_) | Signal::CallDisconnectAck,
            )
            | (Self::AbortPending, Signal::CallDisconnect(_) | Signal::CallDisconnectAck)
            | (
                Self::AbortPending
                | Self::AbortTimeoutPending
                | Self::DisconnectAckPending
                | Self::DisconnectTimeoutPending,
                Signal::CallConnectRequest
                | Signal::BadCallConnectRequest(_)
                | Signal::CallConnectAck
                | Signal::CallConnectNak
                | Signal::CallConnected(_)
                | Signal::EchoRequest
                | Signal::EchoResponse
                | Signal::Invalid(_),
            ) => Action::Ignore,
        }
    }

    pub(super) fn timer(self) -> Timer {
        match self {
            Self::AbortPending => Timer::Abort1,
            Self::AbortTimeoutPending => Timer::Abort2,
            Self::DisconnectAckPending => Timer::Disconnect1,
            Self::DisconnectTimeoutPending => Timer::Disconnect2,
        }
    }
}

/// The timers. At most one runs, since each belongs to one state. [MS-SSTP] 3.1.2, 3.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// From the HTTP response to Call Connect Request; then Call Abort.
    NegotiateRequest,
    /// From Call Connect Ack to a Call Connected that holds; then Call Abort. The login has to fit into it, and the
    /// client runs the same one.
    NegotiateConnected,
    /// From the last packet that was received, in `CallConnected`; then Echo Request.
    Hello,
    /// From our Echo Request to any packet; then the connection is closed without Call Abort.
    Echo,
    /// From our Call Abort to the client's; then the connection is closed.
    Abort1,
    /// From the second Call Abort on, whosever it was; then the connection is closed.
    Abort2,
    /// From our Call Disconnect to its Ack; then the connection is closed.
    Disconnect1,
    /// From our Call Disconnect Ack on; then the connection is closed.
    Disconnect2,
}

impl Timer {
    pub(super) const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::NegotiateRequest | Self::NegotiateConnected | Self::Hello | Self::Echo => 60,
            Self::Abort1 => 3,
            Self::Abort2 | Self::Disconnect2 => 1,
            Self::Disconnect1 => 5,
        })
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::NegotiateRequest => "negotiation: Call Connect Request",
            Self::NegotiateConnected => "negotiation: Call Connected",
            Self::Hello => "hello",
            Self::Echo => "hello: Echo Response",
            Self::Abort1 => "abort 1",
            Self::Abort2 => "abort 2",
            Self::Disconnect1 => "disconnect 1",
            Self::Disconnect2 => "disconnect 2",
        }
    }
}
