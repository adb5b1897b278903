//! DNS over TCP (RFC 7766): the queries of one connection, answered in order as they come.

use smoltcp::socket::tcp::{Socket, State};

use super::connection::Connection;
use super::dns::{self, LARGEST_ANSWER, LARGEST_QUERY, Zone};

/// The length in front of each message (RFC 1035, section 4.2.2).
const LENGTH: usize = 2;

/// What the receive buffer begins with.
enum Next {
    /// A whole query with this many bytes, and room for its answer.
    Query(usize),
    /// Part of one, or nothing.
    Incomplete,
    /// The client does not take its answers.
    NoRoom,
    /// A message that is longer than any query of ours.
    TooLong,
}

/// Answers what has arrived; the number of answers.
pub(super) fn serve(connection: &mut Connection, zone: Zone<'_>) -> u64 {
    let mut answered = 0;
    loop {
        match next(connection.socket_mut()) {
            Next::Query(len) => {
                if answer(connection.socket_mut(), len, zone).is_none() {
                    connection.reset();
                    return answered;
                }
                answered += 1;
            }
            Next::Incomplete => {
                if connection.socket().state() == State::CloseWait {
                    connection.socket_mut().close();
                }
                return answered;
            }
            Next::NoRoom => return answered,
            Next::TooLong => {
                connection.reset();
                return answered;
            }
        }
    }
}

fn next(socket: &mut Socket<'static>) -> Next {
    let mut length = [0; LENGTH];
    if socket.peek_slice(&mut length) != Ok(LENGTH) {
        return Next::Incomplete;
    }
    let len = usize::from(u16::from_be_bytes(length));
    if len > LARGEST_QUERY {
        Next::TooLong
    } else if socket.recv_queue() < LENGTH + len {
        Next::Incomplete
    } else if socket.send_capacity() - socket.send_queue() < LENGTH + LARGEST_ANSWER {
        Next::NoRoom
    } else {
        Next::Query(len)
    }
}

/// Takes one query of `len` bytes and queues its answer. `None` if there is none to give, or nobody to give it to.
fn answer(socket: &mut Socket<'static>, len: usize, zone: Zone<'_>) -> Option<()> {
    let mut message = [0; LENGTH + LARGEST_QUERY];
    let message = message.get_mut(..LENGTH + len)?;
    socket.recv_slice(message).ok()?;
    let mut out = [0; LARGEST_ANSWER];
    let len = dns::answer(message.get(LENGTH..)?, zone, &mut out)?;
    socket.send_slice(&u16::try_from(len).ok()?.to_be_bytes()).ok()?;
    socket.send_slice(out.get(..len)?).ok()?;
    Some(())
}
