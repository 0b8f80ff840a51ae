//! Sockets as only the proxies need them: marked, reset, and asked where they were meant to go.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect as connect_to, getsockopt, setsockopt, socket,
    sockopt,
};

use crate::nft::MARK;

/// What is sent on it is told apart from the target's own. Needs `NET_ADMIN`.
pub fn mark(fd: &impl AsFd) -> io::Result<()> {
    setsockopt(fd, sockopt::Mark, &MARK).map_err(io::Error::from)
}

/// Begins to connect, marked, and does not wait: writable means decided.
pub fn connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    mark(&fd)?;
    match connect_to(fd.as_raw_fd(), &SockaddrIn::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}

/// Where the client wanted to go before the redirect.
pub fn original(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    let address = getsockopt(stream, sockopt::OriginalDst)?;
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}

/// Closes with a reset instead of an end.
pub fn reset(stream: TcpStream) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(&stream, sockopt::Linger, &at_once);
    drop(stream);
}
