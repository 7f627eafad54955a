mod hostile;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;

use super::{
    exchange::{MAX_PAUSE, PAUSE},
    fake::{FakeDns, FakeHost, Said, guarded, local, response, settings},
    rules::is_public,
    *,
};
use crate::infra::clock::Clock;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn a_local_network_may_use_http_ports_and_addresses_but_no_credentials() {
    let rules = Rules::new(true);
    for text in ["http://localhost:2583/", "http://127.0.0.1:2582", "https://[::1]:8443/", "http://pds.test/"] {
        assert_eq!(rules.check(&url(text)), Ok(()), "{text}");
    }
    for text in ["http://a:b@localhost/", "ftp://localhost/", "file:///etc/passwd"] {
        assert!(rules.check(&url(text)).is_err(), "{text}");
    }
}

#[test]
fn special_addresses_are_not_public() {
    let special = [
        "0.1.2.3",
        "10.255.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "::ffff:10.0.0.1",
        "::8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:a00:1::",
        "2002:808:808::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ];
    let public = [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00::1",
        "64:ff9b::8.8.8.8",
        "2001:200::1",
    ];
    for ip in special {
        assert!(!is_public(ip.parse().unwrap()), "{ip} is special");
    }
    for ip in public {
        assert!(is_public(ip.parse().unwrap()), "{ip} is public");
    }
}

proptest! {
    #[test]
    fn no_wrapping_makes_a_private_address_public(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let known = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!(known && is_public(v4.into())));
        let [a, b] = [bits >> 16, bits & 0xffff].map(|half| u16::try_from(half).unwrap());
        let mapped = [
            v4.to_ipv6_mapped(),
            v4.to_ipv6_compatible(),
            Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, a, b, 0, 0, !a, !b),
        ];
        prop_assert!(mapped.iter().all(|ip| !is_public((*ip).into())));
        let translated = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b);
        prop_assert_eq!(is_public(translated.into()), is_public(v4.into()));
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC{0,60}") {
        for candidate in [text.clone(), format!("https://{text}/")] {
            if let Ok(url) = Url::parse(&candidate)
                && Rules::new(false).check(&url).is_ok()
            {
                prop_assert!(url.domain().is_some() && url.scheme() == "https" && url.port().is_none());
            }
        }
    }
}

#[tokio::test]
async fn a_name_of_a_private_address_is_refused() {
    let dns = FakeDns::start(|name, _| match name {
        "alias.innocent.com" => Said::Alias("localhost"),
        _ => Said::Addresses(vec![[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()]),
    })
    .await;
    let outbound = Outbound::new(settings(&dns, false)).unwrap();
    for target in ["https://pds.innocent.com/", "https://alias.innocent.com/"] {
        let error = outbound.get("pds", &url(target)).await.unwrap_err();
        assert!(has_no_address(&error), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_name_that_nobody_could_look_up_is_a_failure_not_an_absence() {
    let dns = FakeDns::start(|_, kind| if kind == 1 { Said::Failure } else { Said::Nothing }).await;
    let error = guarded(&dns).get("pds", &url("http://pds.innocent.com/")).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { .. }) && !has_no_address(&error), "{}", error.chain());
}

#[tokio::test]
async fn of_several_addresses_only_the_public_ones_are_used() {
    let (host, private) = FakeHost::pair(|_, _| response(200, "", "public")).await;
    let dns = FakeDns::start(|_, _| Said::Addresses(vec![[127, 0, 0, 2].into(), [127, 0, 0, 1].into()])).await;
    let answer = guarded(&dns).get("pds", &url(&format!("http://two.com:{}/", host.at.port()))).await.unwrap();
    assert_eq!((answer.body.as_ref(), private.connections()), (&b"public"[..], 0));
}

#[tokio::test]
async fn a_name_that_changes_its_mind_never_leads_to_the_private_address() {
    let (host, private) = FakeHost::pair(|_, _| response(200, "", "public")).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let dns = FakeDns::start(move |_, kind| {
        let first = kind != 1 || count.fetch_add(1, Ordering::SeqCst) == 0;
        Said::Addresses(vec![IpAddr::from([127, 0, 0, if first { 1 } else { 2 }])])
    })
    .await;
    let outbound = guarded(&dns);
    let target = url(&format!("http://rebind.com:{}/", host.at.port()));
    assert_eq!(outbound.get("pds", &target).await.unwrap().body.as_ref(), b"public");
    for _ in 0..5 {
        assert!(has_no_address(&outbound.get("pds", &target).await.unwrap_err()));
    }
    assert!(asked.load(Ordering::SeqCst) > 1);
    assert_eq!((host.connections(), private.connections()), (1, 0));
}

#[tokio::test]
async fn whatever_dns_says_no_private_host_is_connected_to() {
    let (host, private) = FakeHost::pair(|_, _| response(200, "", "public")).await;
    let mapped = Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped();
    let dns = FakeDns::start(move |name, kind| match (name, kind) {
        ("private.com", _) => Said::Addresses(vec![[127, 0, 0, 2].into()]),
        ("public.com", _) => Said::Addresses(vec![[127, 0, 0, 1].into()]),
        ("alias.com", _) => Said::Alias("alias2.com"),
        ("alias2.com", _) => Said::Alias("private.com"),
        ("alias-to-public.com", _) => Said::Alias("public.com"),
        ("loop.com", _) => Said::Alias("loop.com"),
        // Something for everybody: public IPv4 and private IPv6, and the other way round.
        ("mapped.com", _) => Said::Addresses(vec![mapped.into()]),
        ("mixed.com", _) => Said::Addresses(vec![mapped.into(), Ipv6Addr::LOCALHOST.into(), [127, 0, 0, 1].into()]),
        ("unspecified.com", _) => Said::Addresses(vec![[0, 0, 0, 0].into(), Ipv6Addr::UNSPECIFIED.into()]),
        _ => Said::Nothing,
    })
    .await;
    let (outbound, port) = (guarded(&dns), host.at.port());
    for (name, is_reached) in [
        ("private.com", false),
        ("alias.com", false),
        ("loop.com", false),
        ("mapped.com", false),
        ("unspecified.com", false),
        ("nobody.com", false),
        ("mixed.com", true),
        ("alias-to-public.com", true),
    ] {
        for request in [Request::get, |url| Request::post(url, "text/plain", "x")] {
            let answer = outbound.send("pds", request(url(&format!("http://{name}:{port}/")))).await;
            assert_eq!(answer.is_ok_and(|answer| answer.body.as_ref() == b"public"), is_reached, "{name}");
        }
    }
    assert_eq!((host.connections(), private.connections()), (4, 0));
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_checked() {
    let (host, private) = FakeHost::pair(|port, path| {
        let to = match path {
            "/literal" => format!("http://127.0.0.2:{port}/"),
            "/name" => format!("http://private.com:{port}/"),
            "/scheme" => "file:///etc/passwd".to_owned(),
            "/credentials" => format!("http://a:b@public.com:{port}/"),
            "/ok" => "/end".to_owned(),
            "/end" => return response(200, "", "end"),
            _ => path.to_owned(),
        };
        response(302, &format!("location: {to}\r\n"), "")
    })
    .await;
    let dns = FakeDns::start(|name, _| {
        Said::Addresses(vec![IpAddr::from([127, 0, 0, if name == "private.com" { 2 } else { 1 }])])
    })
    .await;
    let (outbound, port) = (guarded(&dns), host.at.port());
    let get = |path: &str| {
        let target = url(&format!("http://public.com:{port}/{path}"));
        let outbound = outbound.clone();
        async move { outbound.get("pds", &target).await }
    };
    for path in ["literal", "name", "scheme", "credentials"] {
        assert!(matches!(get(path).await, Err(Error::Upstream { .. })), "{path}");
    }
    assert_eq!(get("ok").await.unwrap().body.as_ref(), b"end");
    let before = host.connections();
    assert!(matches!(get("loop").await, Err(Error::Upstream { .. })));
    assert_eq!(host.connections() - before, MAX_REDIRECTS + 1);
    assert_eq!(private.connections(), 0);
}

#[tokio::test]
async fn a_post_carries_its_body_and_its_redirect_is_the_answer() {
    let (host, private) = FakeHost::pair_hearing(|port, heard| match heard.path.as_str() {
        "/away" => response(307, &format!("location: http://private.com:{port}/\r\n"), ""),
        "/here" => response(303, "location: /echo\r\n", ""),
        "/nonce" => response(401, "dpop-nonce: n1\r\n", r#"{"error":"use_dpop_nonce"}"#),
        _ => {
            let header = |name| heard.header(name).unwrap_or("none").to_owned();
            let (kind, proof, length) = (header("content-type"), header("dpop"), header("content-length"));
            response(200, "", &format!("{} {kind} {proof} {length} {}", heard.method, heard.body))
        }
    })
    .await;
    let dns = FakeDns::start(|name, _| {
        Said::Addresses(vec![IpAddr::from([127, 0, 0, if name == "private.com" { 2 } else { 1 }])])
    })
    .await;
    let (outbound, port) = (guarded(&dns), host.at.port());
    let send = |path: &str, body: &'static str| {
        let target = url(&format!("http://public.com:{port}/{path}"));
        let mut request = Request::post(target, "application/x-www-form-urlencoded", body)
            .with(HeaderName::from_static("dpop"), HeaderValue::from_static("proof"));
        request.follow_redirects = true; // only of GET
        let outbound = outbound.clone();
        async move { outbound.send("oauth", request).await.unwrap() }
    };
    let answer = send("echo", "a=b").await;
    assert_eq!(answer.body.as_ref(), b"POST application/x-www-form-urlencoded proof 3 a=b");
    assert_eq!(send("echo", "").await.body.as_ref(), b"POST application/x-www-form-urlencoded proof 0 ");
    for (path, status) in [("away", 307), ("here", 303)] {
        let answer = send(path, "a=b").await;
        assert_eq!((answer.status, answer.header("location").is_some()), (status, true));
    }
    let answer = send("nonce", "a=b").await;
    assert_eq!((answer.status, answer.header("dpop-nonce")), (401, Some("n1")));
    assert_eq!(private.connections(), 0);
    let refused = outbound.send("oauth", Request::post(url("ftp://public.com/"), "text/plain", "x")).await.unwrap_err();
    assert_eq!(refused.reason(), "URL_REFUSED");
}

#[tokio::test]
async fn secrets_in_headers_stay_with_their_host() {
    let host = FakeHost::hearing("127.0.0.1:0", |heard| {
        let port: u16 = heard.header("host").unwrap().rsplit(':').next().unwrap().parse().unwrap();
        match heard.path.as_str() {
            "/same" => response(302, "location: /end\r\n", ""),
            "/other" => response(302, &format!("location: http://other.com:{port}/end\r\n"), ""),
            _ => response(200, "", heard.header("authorization").unwrap_or("none")),
        }
    })
    .await;
    let dns = FakeDns::start(|_, _| Said::Addresses(vec![[127, 0, 0, 1].into()])).await;
    let outbound = local(&dns);
    for (path, follow, body) in [("same", true, "secret"), ("other", true, "none"), ("other", false, "")] {
        let mut request = Request::get(url(&format!("http://one.com:{}/{path}", host.at.port())))
            .with(HeaderName::from_static("authorization"), HeaderValue::from_static("secret"));
        request.follow_redirects = follow;
        let answer = outbound.send("pds", request).await.unwrap();
        assert_eq!((answer.body.as_ref(), answer.status), (body.as_bytes(), if follow { 200 } else { 302 }), "{path}");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_off_whether_it_says_so_or_not() {
    let host = FakeHost::start("127.0.0.1:0", |path| match path {
        "/fits" => response(200, "", &"x".repeat(10_000)),
        "/says" => response(200, "", &"x".repeat(10_001)),
        _ => format!("HTTP/1.1 200 X\r\nconnection: close\r\n\r\n{}", "x".repeat(200_000)),
    })
    .await;
    let dns = FakeDns::start(|_, _| Said::Nothing).await;
    let outbound = local(&dns);
    let base = url(&format!("http://localhost:{}/", host.at.port()));
    assert_eq!(outbound.get("pds", &base.join("/fits").unwrap()).await.unwrap().body.len(), 10_000);
    for path in ["/says", "/silent"] {
        assert!(is_too_large(&outbound.get("pds", &base.join(path).unwrap()).await.unwrap_err()), "{path}");
    }
    for (limit, is_cut) in [(9_999, true), (10_000, false), (20_000, false)] {
        let request = Request { max_body_bytes: Some(limit), ..Request::get(base.join("/fits").unwrap()) };
        let outcome = outbound.send("pds", request).await;
        assert_eq!(outcome.is_err_and(|error| is_too_large(&error)), is_cut, "{limit}");
    }
}

#[tokio::test]
async fn a_refused_url_and_a_busy_host_have_their_own_errors() {
    let host = FakeHost::start("127.0.0.1:0", |path| match path {
        "/gone" => response(410, "", "tombstone"),
        _ => response(429, "retry-after: 17\r\n", ""),
    })
    .await;
    let dns = FakeDns::start(|_, _| Said::Nothing).await;
    let base = url(&format!("http://localhost:{}/", host.at.port()));
    let refused = Outbound::new(settings(&dns, false)).unwrap().get("pds", &base).await.unwrap_err();
    assert_eq!(refused.reason(), "URL_REFUSED");
    let busy = local(&dns).get("pds", &base).await.unwrap_err();
    assert!(matches!(busy, Error::RateLimited { retry_after } if retry_after == Duration::from_secs(17)));
    assert_eq!(local(&dns).get("pds", &base.join("/gone").unwrap()).await.unwrap().status, 410);
}

#[tokio::test]
async fn a_host_that_fails_is_left_alone_and_its_neighbour_is_not() {
    let broken = FakeHost::start("127.0.0.1:0", |path| match path {
        "/odd" => response(500, "", ""),
        "/busy" => response(503, "retry-after: 600\r\n", ""),
        _ => response(503, "", ""),
    })
    .await;
    let fine = FakeHost::start("127.0.0.1:0", |_| response(200, "", "well")).await;
    let dns = FakeDns::start(|_, _| Said::Nothing).await;
    let outbound = local(&dns);
    let at = |host: &FakeHost, path: &str| url(&format!("http://localhost:{}/{path}", host.at.port()));
    for _ in 0..9 {
        assert_eq!(outbound.get("pds", &at(&broken, "odd")).await.unwrap().status, 500);
    }
    assert_eq!(outbound.rest(&at(&broken, "")), None, "that may be about what was asked for");
    for _ in 0..5 {
        assert_eq!(outbound.get("pds", &at(&broken, "")).await.unwrap().status, 503);
    }
    let asked = broken.connections();
    let error = outbound.get("pds", &at(&broken, "odd")).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { service: "pds", .. }), "{error:?}");
    let rest = rest_of(&error).unwrap();
    assert!(rest <= Duration::from_secs(5) && outbound.rest(&at(&broken, "")).is_some_and(|left| left <= rest));
    assert_eq!(broken.connections(), asked, "nobody was asked");
    assert_eq!(outbound.get("pds", &at(&fine, "")).await.unwrap().status, 200);

    let outbound = local(&dns);
    assert_eq!(outbound.get("pds", &at(&broken, "busy")).await.unwrap().status, 503);
    let error = outbound.get("pds", &at(&broken, "odd")).await.unwrap_err();
    assert!(matches!(error, Error::RateLimited { retry_after } if retry_after > Duration::from_secs(500)), "{error:?}");
}

#[test]
fn a_pause_is_read_in_every_form_and_bounded() {
    let pause = |name: &'static str, value: &str| {
        pause(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
    };
    let now = Clock::system().now();
    let soon = pause("ratelimit-reset", &(now.timestamp() + 100).to_string());
    let date = pause("retry-after", &(now + chrono::TimeDelta::seconds(100)).to_rfc2822());
    for pause in [soon, date] {
        assert!((90..=100).contains(&pause.as_secs()), "{pause:?}");
    }
    assert_eq!(pause("ratelimit-reset", "12"), Duration::from_secs(12));
    assert_eq!(pause("retry-after", "-5"), Duration::from_secs(1));
    assert_eq!(pause("retry-after", "999999999999"), MAX_PAUSE);
    assert_eq!(pause("retry-after", "soon"), PAUSE);
}

#[tokio::test]
async fn text_records_that_do_not_exist_are_none_and_failures_are_failures() {
    let dns = FakeDns::start(|name, _| match name {
        "_atproto.alice.com" => Said::Texts(vec!["did=did:plc:a".into(), "other".into()]),
        "_atproto.broken.com" => Said::Failure,
        "_atproto.empty.com" => Said::Texts(vec![]),
        _ => Said::Nothing,
    })
    .await;
    let outbound = local(&dns);
    assert_eq!(outbound.txt("_atproto.alice.com").await.unwrap(), ["did=did:plc:a", "other"]);
    for absent in ["_atproto.empty.com", "_atproto.nobody.com", &format!("_atproto.{}com", "a.".repeat(130))] {
        assert!(outbound.txt(absent).await.unwrap().is_empty(), "{absent}");
    }
    assert!(matches!(outbound.txt("_atproto.broken.com").await, Err(Error::Upstream { service: "dns", .. })));
}
