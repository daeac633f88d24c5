/// Whether `requested` is the registered URI: byte for byte (RFC 9700 §4.1.3), but for the port of
/// a loopback IP address over http, which a native app learns only when it starts (RFC 8252 §7.3).
pub(super) fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    match (loopback(registered), loopback(requested)) {
        (Some(registered), Some(requested)) => registered == requested,
        _ => false,
    }
}

/// The registered URI that looks most like `requested`, for developers who look for a typo.
pub(super) fn closest<'a>(registered: &'a [String], requested: &str) -> Option<&'a String> {
    registered.iter().min_by_key(|uri| strsim::levenshtein(uri, requested))
}

/// The address and what follows the port of an http URI on a loopback IP address, spelt in the one
/// way that RFC 8252 knows.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    ["http://127.0.0.1", "http://[::1]"].into_iter().find_map(|host| {
        let rest = uri.strip_prefix(host)?;
        let tail = match rest.strip_prefix(':') {
            Some(with_port) => {
                let end = with_port.find(|c: char| !c.is_ascii_digit());
                let (port, tail) = with_port.split_at(end.unwrap_or(with_port.len()));
                is_port(port).then_some(tail)?
            }
            None => rest,
        };
        (tail.is_empty() || tail.starts_with(['/', '?'])).then_some((host, tail))
    })
}

fn is_port(text: &str) -> bool {
    !text.starts_with('0') && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn only_the_very_same_bytes_match() {
        let registered = "https://client.example/callback";
        assert!(matches(registered, registered));
        for other in [
            "https://client.example/CALLBACK",
            "HTTPS://CLIENT.EXAMPLE/callback",
            "https://client.example/callback/",
            "https://client.example:443/callback",
            "https://client.example@evil.example/callback",
            "https://client.example.evil.com/callback",
            "https://evilclient.example/callback",
            "https://client.example/callback.evil",
            "https://client.example/callback/../evil",
            "https://client.example/callback?x=1",
            "https://client.example/callback#x",
            "https://client.example\\@evil.example/callback",
            "https://clientXexample/callback",
            "https://client.example/%63allback",
            " https://client.example/callback",
            "https://client.example/callback\n",
            "http://127.0.0.1/callback",
        ] {
            assert!(!matches(registered, other), "{other:?}");
        }
    }

    #[test]
    fn the_port_of_a_loopback_address_is_free_and_nothing_else_of_it() {
        let registered = "http://127.0.0.1/cb";
        for fine in
            ["http://127.0.0.1:1/cb", "http://127.0.0.1:49152/cb", "http://127.0.0.1:65535/cb"]
        {
            assert!(matches(registered, fine), "{fine}");
            assert!(matches("http://127.0.0.1:8080/cb", fine), "{fine}");
        }
        assert!(matches("http://[::1]:1/", "http://[::1]:2/"));
        for other in [
            "http://127.0.0.1:5/cb?bar=foo",
            "http://127.0.0.1:5/cb/",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:080/cb",
            "http://127.0.0.1:99999/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:5x/cb",
            "http://127.0.0.1.evil.com/cb",
            "http://127.0.0.1@evil.com/cb",
            "http://127.0.0.1:5@evil.com/cb",
            "http://localhost:5/cb",
            "http://[::1]:5/cb",
            "http://127.1/cb",
            "http://0x7f000001/cb",
            "http://2130706433/cb",
            "http://[::ffff:127.0.0.1]/cb",
            "https://127.0.0.1:5/cb",
        ] {
            assert!(!matches(registered, other), "{other}");
        }
        assert!(!matches("https://127.0.0.1/cb", "https://127.0.0.1:5/cb"));
        assert!(!matches("http://localhost/cb", "http://localhost:5/cb"));
    }
}
