//! Calls of a function on an Erlang node, as a hidden node: what `rpc:call` does, over a connection that we dialled.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use erl_dist::LOWEST_DISTRIBUTION_PROTOCOL_VERSION as VERSION;
use erl_dist::handshake::{ClientSideHandshake, HandshakeStatus};
use erl_dist::message::Message;
use erl_dist::node::{Creation, LocalNode, NodeName};
use erl_dist::term::{Atom, List, Pid, Reference, Term, Tuple};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::cluster::{ClusterError, Stream};

const ANSWER_MAX: usize = 4 << 20;
/// Where a RabbitMQ node takes the connections of others.
pub(super) const PORT: u16 = 25672;
/// The tag of a message that is not fragmented and has no cache of atoms.
const PASS_THROUGH: u8 = 112;
/// Who carries out what is asked for.
const SERVER: &str = "rex";

/// A connection that is a member of the node's hidden neighbours.
pub(super) struct Node {
    stream: Box<dyn Stream>,
    /// What the node calls itself.
    pub name: String,
    me: Pid,
    calls: u32,
}

impl Node {
    /// Introduces itself. The name is drawn anew each time: a node takes each name once.
    pub async fn open(stream: Box<dyn Stream>, cookie: &str, what: &str) -> Result<Self, ClusterError> {
        let failed = |error: &dyn Display| ClusterError::state(what.to_owned(), error.to_string());
        let name = NodeName::new(&format!("mettle-{:08x}", rand::random::<u32>()), "harness.mettle.dev");
        let local = LocalNode::new(name.map_err(|error| failed(&error))?, Creation::random());
        let me = Pid::new(local.name.to_string(), 0, 0, local.creation.get());
        let mut handshake = ClientSideHandshake::new(Futures(stream), local, cookie);
        let status = handshake.execute_send_name(VERSION).await.map_err(|error| failed(&error))?;
        if !matches!(status, HandshakeStatus::Ok | HandshakeStatus::OkSimultaneous) {
            return Err(failed(&format!("the node answers {status:?}")));
        }
        let (Futures(stream), peer) = handshake.execute_rest(true).await.map_err(|error| failed(&error))?;
        Ok(Self { stream, name: peer.name.to_string(), me, calls: 0 })
    }

    /// What `module:function(arguments)` returns there.
    pub async fn call(
        &mut self,
        module: &str,
        function: &str,
        arguments: Vec<Term>,
        what: &str,
    ) -> Result<Term, ClusterError> {
        let failed = |error: &dyn Display| ClusterError::state(what.to_owned(), error.to_string());
        self.calls = self.calls.wrapping_add(1);
        let reference =
            Reference { node: self.me.node.clone(), id: vec![self.calls, 0, 0], creation: self.me.creation };
        let question = Message::reg_send(
            self.me.clone(),
            Atom::from(SERVER),
            tuple(vec![
                atom("$gen_call"),
                tuple(vec![self.me.clone().into(), reference.clone().into()]),
                tuple(vec![
                    atom("call"),
                    atom(module),
                    atom(function),
                    List::from(arguments).into(),
                    atom("user"),
                ]),
            ]),
        );
        let mut bytes = vec![0, 0, 0, 0, PASS_THROUGH];
        question.write_into(&mut bytes).map_err(|error| failed(&error))?;
        let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&bytes).await.map_err(|error| failed(&error))?;
        self.stream.flush().await.map_err(|error| failed(&error))?;
        loop {
            let length = self.stream.read_u32().await.map_err(|error| failed(&error))? as usize;
            if length == 0 {
                // A tick: the next question is answer enough.
                continue;
            }
            if length > ANSWER_MAX {
                return Err(failed(&format!("its answer has {length} bytes")));
            }
            let mut bytes = vec![0; length];
            self.stream.read_exact(&mut bytes).await.map_err(|error| failed(&error))?;
            let Some((&PASS_THROUGH, mut rest)) = bytes.split_first() else {
                return Err(failed(&"its answer is in a form that was not agreed on"));
            };
            let message = Message::read_from(&mut rest).map_err(|error| failed(&error))?;
            if let Some(result) = result_of(message, &reference) {
                return result.map_err(|why| failed(&why));
            }
        }
    }
}

/// `{Reference, Result}`, of this call; what a former call that was given up left is passed over.
fn result_of(message: Message, reference: &Reference) -> Option<Result<Term, String>> {
    let Message::Send(sent) = message else { return None };
    let Term::Tuple(Tuple { elements }) = sent.message else { return None };
    let [Term::Reference(of), result] = <[Term; 2]>::try_from(elements).ok()? else { return None };
    if *of != *reference {
        return None;
    }
    if let Term::Tuple(Tuple { elements }) = &result
        && elements.first() == Some(&atom("badrpc"))
    {
        return Some(Err(result.to_string().chars().take(200).collect()));
    }
    Some(Ok(result))
}

pub(super) fn atom(name: &str) -> Term {
    Atom::from(name).into()
}

fn tuple(elements: Vec<Term>) -> Term {
    Tuple::from(elements).into()
}

/// The runtime's stream, as the handshake wants it.
struct Futures(Box<dyn Stream>);

impl AsyncRead for Futures {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let mut into = ReadBuf::new(buffer);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.0), context, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }
}

impl AsyncWrite for Futures {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_call_counts() {
        let reference = |call| Reference { node: Atom::from("a@b"), id: vec![call, 0, 0], creation: 1 };
        let me = Pid::new("a@b", 0, 0, 1);
        let sent =
            |of, result| Message::send(me.clone(), tuple(vec![Reference::into(reference(of)), result]));
        assert_eq!(result_of(sent(2, atom("x")), &reference(2)), Some(Ok(atom("x"))));
        assert_eq!(result_of(sent(1, atom("x")), &reference(2)), None);
        assert_eq!(result_of(Message::Tick, &reference(2)), None);
        let bad = tuple(vec![atom("badrpc"), atom("nodedown")]);
        assert!(result_of(sent(2, bad), &reference(2)).unwrap().is_err());
    }
}
