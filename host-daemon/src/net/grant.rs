//! What a client may do in the network.

use gpu_abi::socket::NetAddr;

/// How far a client's sockets reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reach {
    /// No addresses at all: no IP sockets.
    Nowhere,
    /// This machine: loopback addresses only, to listen at and to connect to.
    Loopback,
    /// Wherever this process gets.
    #[default]
    Anywhere,
}

/// What a client may do in the network (clause N14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetGrant {
    /// Sockets that may be in use at once, connections that wait to be accepted included; the region's
    /// own number if that is smaller.
    pub sockets: u32,
    /// Which addresses may be bound, connected to and sent to.
    pub reach: Reach,
    /// Whether there may be Unix sockets. Their paths are the process's, so that they are refused where a
    /// root is granted.
    pub unix: bool,
}

impl Default for NetGrant {
    /// As for the standard library: what the process may do.
    fn default() -> Self {
        NetGrant { sockets: u32::MAX, reach: Reach::Anywhere, unix: true }
    }
}

impl NetGrant {
    /// No network.
    pub const NONE: NetGrant = NetGrant { sockets: 0, reach: Reach::Nowhere, unix: false };

    /// Whether an address may be bound, connected or sent to.
    pub(crate) fn may_reach(&self, addr: &NetAddr) -> bool {
        match addr.to_std() {
            None => addr.family == NetAddr::UNIX && self.unix,
            Some(addr) => match self.reach {
                Reach::Nowhere => false,
                Reach::Loopback => addr.ip().to_canonical().is_loopback(),
                Reach::Anywhere => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n14_a_grant_reaches_as_far_as_it_says() {
        let to = |text: &str| NetAddr::from(text.parse::<std::net::SocketAddr>().unwrap());
        let of = |reach| NetGrant { reach, unix: false, ..NetGrant::default() };
        for (addr, loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert!(of(Reach::Anywhere).may_reach(&to(addr)));
            assert!(!of(Reach::Nowhere).may_reach(&to(addr)));
            assert_eq!(of(Reach::Loopback).may_reach(&to(addr)), loopback, "{addr}");
        }
        assert!(!of(Reach::Anywhere).may_reach(&NetAddr::unix(3)));
        assert!(NetGrant::default().may_reach(&NetAddr::unix(3)));
        assert!(!NetGrant::default().may_reach(&NetAddr::default()));
    }
}
