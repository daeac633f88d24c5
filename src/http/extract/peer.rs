use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The id of a request: ours, whatever the caller sent.
#[derive(Debug, Clone)]
pub(in crate::http) struct RequestId(pub(in crate::http) String);

/// Hops beyond that are not looked at.
const MOST_HOPS: usize = 32;

/// Whom a request comes from: the peer itself, unless it is a proxy that we trust; then the
/// right-most address of `X-Forwarded-For` that is not one.
pub(in crate::http) fn client_address(
    peer: SocketAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> IpAddr {
    let trusts = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    let mut nearest = peer.ip().to_canonical();
    if !trusts(nearest) {
        return nearest;
    }
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = values.iter().rev().flat_map(|v| v.to_str().unwrap_or("?").rsplit(','));
    for hop in hops.take(MOST_HOPS) {
        // What is no address cannot be passed over: the proxy before it is all we know.
        let Some(ip) = address(hop) else { return nearest };
        nearest = ip;
        if !trusts(ip) {
            return ip;
        }
    }
    nearest
}

/// An address, alone or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text.parse::<IpAddr>().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        bare.and_then(|ip| ip.parse().ok())
    });
    ip.or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_cannot_say_who_it_is() {
        assert_eq!(from("192.0.2.7:4000", &["10.9.9.9"], &[]), "192.0.2.7");
        assert_eq!(from("192.0.2.7:4000", &["10.9.9.9"], &["10.0.0.0/8"]), "192.0.2.7");
    }

    #[test]
    fn behind_proxies_the_right_most_stranger_counts() {
        let proxies = &["10.0.0.0/8", "fd00::/8"];
        let cases: &[(&[&str], &str)] = &[
            (&["203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9, 10.1.1.1"], "203.0.113.9"),
            (&["1.1.1.1", "203.0.113.9", "10.1.1.1"], "203.0.113.9"),
            (&["203.0.113.9:5000"], "203.0.113.9"),
            (&["[2001:db8::1]:5000"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1, nonsense, 10.1.1.1"], "10.1.1.1"),
            (&["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
            (&[], "10.0.0.1"),
        ];
        for (forwarded, expected) in cases {
            assert_eq!(from("10.0.0.1:4000", forwarded, proxies), *expected, "{forwarded:?}");
        }
    }
}
