//! Names of hosts in grants, and which addresses are private.

use caisson_core::plugin::{HostPattern, Network, is_public};

#[test]
fn host_patterns_mean_what_they_say() {
    // Pattern, scheme with TLS, host, port, whether it is meant.
    let cases = [
        ("a.example", true, "a.example", 443, true),
        ("a.example", false, "a.example", 80, true),
        ("a.example", true, "A.EXAMPLE.", 443, true),
        ("a.example", true, "a.example", 8443, false),
        ("a.example", false, "a.example", 443, false),
        ("a.example", true, "b.a.example", 443, false),
        ("a.example", true, "a.example.evil.test", 443, false),
        ("a.example", true, "xa.example", 443, false),
        ("https://a.example", false, "a.example", 80, false),
        ("https://a.example", true, "a.example", 443, true),
        ("http://a.example", true, "a.example", 443, false),
        ("a.example:8080", false, "a.example", 8080, true),
        ("a.example:8080", true, "a.example", 8080, true),
        ("a.example:8080", false, "a.example", 80, false),
        ("a.example:*", false, "a.example", 1, true),
        ("*.a.example", true, "b.a.example", 443, true),
        ("*.a.example", true, "c.b.a.example", 443, true),
        ("*.a.example", true, "a.example", 443, false),
        ("*.a.example", true, ".a.example", 443, false),
        ("*.a.example", true, "ba.example", 443, false),
        ("*", true, "anything.test", 443, true),
        ("*", true, "anything.test", 444, false),
        ("*:*", false, "anything.test", 444, true),
        ("10.0.0.7:80", false, "10.0.0.7", 80, true),
        ("10.0.0.7:80", false, "10.0.0.70", 80, false),
        ("10.0.0.7", false, "::ffff:10.0.0.7", 80, true),
        ("::ffff:10.0.0.7", false, "10.0.0.7", 80, true),
        ("fd00::1", false, "fd00:0:0::1", 80, true),
        ("[fd00::1]:8080", false, "fd00::1", 8080, true),
        ("[fd00::1]:8080", false, "fd00::1", 80, false),
        ("localhost:3000", false, "localhost", 3000, true),
        ("localhost:3000", false, "127.0.0.1", 3000, false),
        ("xn--mnchen-3ya.de", true, "xn--mnchen-3ya.de", 443, true),
    ];
    for (pattern, tls, host, port, meant) in cases {
        let read: HostPattern = pattern.parse().unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(read.matches(tls, host, port), meant, "{pattern} and {tls} {host} {port}");
        let again: HostPattern = read.to_string().parse().unwrap_or_else(|error| panic!("{read}: {error}"));
        assert_eq!(again, read, "{pattern} as {read}");
    }
}

#[test]
fn host_patterns_that_could_mean_something_else_are_refused() {
    let cases = [
        "",
        ".",
        "..",
        "*.",
        "*..",
        "*.*.example",
        "a..example",
        ".a.example",
        "https://",
        "ftp://a.example",
        "a.example/",
        "a.example?x",
        "a.example#x",
        "user@a.example",
        "a example",
        "a.example:",
        "a.example:0",
        "a.example:65536",
        "a.example:http",
        "münchen.de",
        "[fd00::1",
        "[a.example]:80",
        "[fd00::1]x",
        "[fd00::1]80",
        "[10.0.0.1]",
        "fe80::1%eth0",
        "a\\b",
        "a\tb",
        "a\0b",
        "%61.example",
        // The URL standard writes these out, so that no URL would ever have such a host.
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "10.0.0.1.2",
        "256.0.0.1",
        "*.0.0.1",
        "a.0x10",
    ];
    for pattern in cases {
        assert!(pattern.parse::<HostPattern>().is_err(), "{pattern:?} reads as {:?}", pattern.parse::<HostPattern>());
    }
    assert!("a".repeat(64).parse::<HostPattern>().is_err());
    assert!(vec!["abcdefgh"; 30].join(".").parse::<HostPattern>().is_err());
}

#[test]
fn networks_hold_their_addresses_and_no_others() {
    let cases = [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.1.2.3/8", "10.9.9.9", true),
        ("10.0.0.7", "10.0.0.7", true),
        ("10.0.0.7", "10.0.0.8", false),
        ("0.0.0.0/0", "203.0.113.1", true),
        ("0.0.0.0/0", "fd00::1", false),
        ("::/0", "fd00::1", true),
        ("::/0", "10.0.0.1", false),
        ("fd00::/8", "fdff::1", true),
        ("fd00::/8", "fe80::1", false),
        ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ("::ffff:10.0.0.0/104", "10.1.1.1", true),
        ("::ffff:10.0.0.0/104", "11.1.1.1", false),
        ("::1", "::1", true),
    ];
    for (network, address, inside) in cases {
        let read: Network = network.parse().unwrap_or_else(|error| panic!("{network}: {error}"));
        assert_eq!(read.contains(address.parse().expect(address)), inside, "{network} and {address}");
        assert_eq!(read.to_string().parse::<Network>().expect(network), read);
    }
    for network in ["", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "10/8", "a.example/8", "10.0.0.0/8/8", "10.0.0.0/"]
    {
        assert!(network.parse::<Network>().is_err(), "{network}");
    }
}

#[test]
fn special_addresses_are_private() {
    let private = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd12:3456:789a::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "e000::1",
    ];
    for address in private {
        assert!(!is_public(address.parse().expect(address)), "{address}");
    }
    let public = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.128.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2001:4860:4860::8888",
        "2002:808:808::1",
        "2606:4700:4700::1111",
        "2a00:1450::1",
    ];
    for address in public {
        assert!(is_public(address.parse().expect(address)), "{address}");
    }
}
