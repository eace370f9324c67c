//! Ports for the parts that are told theirs on the command line.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

/// The port to use: the wished one; a free one for 0; without a wish the usual one, or a free one when it is taken.
pub(crate) fn choose(wish: Option<u16>, usual: u16) -> io::Result<u16> {
    match wish {
        Some(0) => free(),
        Some(port) => Ok(port),
        None => TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).map(|_| usual).or_else(|_| free()),
    }
}

fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_usual_port_is_avoided_but_a_wished_one_is_kept() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(choose(None, port).unwrap(), port);
        assert_eq!(choose(Some(port), 1).unwrap(), port);
        assert_ne!(choose(Some(0), port).unwrap(), 0);
    }
}
