//! Who may come in.

use super::{Protected, pem, tls};

/// The lowest cost, so that the tests do not take long.
const COST: u32 = 4;

fn users(of: &[(&str, &str)]) -> String {
    let lines = of.iter().map(|(name, password)| {
        let hash = bcrypt::hash(password, COST).unwrap();
        format!("  {name}: {hash}\n")
    });
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

#[tokio::test]
async fn only_the_right_name_and_password_come_in() {
    let site = Protected::new(&users(&[("alice", "rabbit:hole"), ("bob", "builder")])).await;
    let ask = async |credentials: &str| site.http("/-/healthy", &["--http1.1", "--user", credentials]).await;
    // The second time from memory.
    for _ in 0..2 {
        assert_eq!(ask("alice:rabbit:hole").await.status, 200);
        assert_eq!(ask("bob:builder").await.status, 200);
        for wrong in [
            "alice:builder",
            "alice:",
            "alice:rabbit",
            "Alice:rabbit:hole",
            "carol:builder",
            ":",
            "bob:builder ",
        ] {
            let answer = ask(wrong).await;
            assert_eq!(answer.status, 401, "{wrong}");
            assert!(answer.head.contains("www-authenticate: basic"), "{}", answer.head);
            assert_eq!(answer.body, "Unauthorized\n");
        }
    }
}

#[tokio::test]
async fn what_is_no_basic_authentication_is_refused() {
    let site = Protected::new(&users(&[("alice", "rabbit")])).await;
    for (header, status) in [
        ("Authorization: Basic YWxpY2U6cmFiYml0", 200),
        ("Authorization: bAsIc YWxpY2U6cmFiYml0", 200),
        ("Authorization: BasicYWxpY2U6cmFiYml0", 401),
        ("Authorization: Basic YWxpY2U6cmFiYml", 401),
        ("Authorization: Basic YWxpY2U=", 401),
        ("Authorization: Basic", 401),
        ("Authorization: Bearer YWxpY2U6cmFiYml0", 401),
        ("X-Nothing: 1", 401),
    ] {
        let answer = site.http("/", &["--http1.1", "--header", header]).await;
        assert_eq!(answer.status, status, "{header}");
    }
}

#[tokio::test]
async fn every_path_and_method_is_behind_the_password() {
    let site = Protected::new(&users(&[("alice", "rabbit")])).await;
    for path in ["/", "/metrics", "/status.json", "/-/healthy", "/-/ready", "/-/reload", "/nothing"] {
        for method in ["GET", "POST", "OPTIONS"] {
            let answer = site.http(path, &["--http1.1", "--request", method]).await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
        assert_eq!(site.http(path, &["--http1.1", "--head"]).await.status, 401, "{path}");
    }
    let reload = ["--http1.1", "--request", "POST", "--user", "alice:rabbit"];
    // Nobody listens there, but the request came through.
    assert_eq!(site.http("/-/reload", &reload).await.status, 500);
}

#[tokio::test]
async fn passwords_and_client_certificates_go_together() {
    let (authority, certificate, key) = (pem("authority.pem"), pem("client.pem"), pem("client.key"));
    let clients = format!("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {authority}\n");
    let site = Protected::new(&(tls(&clients) + &users(&[("alice", "rabbit")]))).await;
    let certificate = ["--cert", &certificate, "--key", &key];
    assert_eq!(site.https("/metrics", &certificate).await.status, 401);
    let both = [&certificate[..], &["--user", "alice:rabbit"]].concat();
    assert_eq!(site.https("/metrics", &both).await.status, 200);
    assert_eq!(site.https("/metrics", &["--user", "alice:rabbit"]).await.status, 0);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_reload() {
    let site = Protected::new(&(tls("") + &users(&[("alice", "rabbit")]))).await;
    let (host, port) = (site.address.ip(), site.address.port());
    let own = format!("Origin: https://{host}:{port}");
    let ask = async |headers: &[&str], more: &[&str]| {
        let mut arguments = vec!["--request", "POST", "--user", "alice:rabbit"];
        arguments.extend(headers.iter().flat_map(|header| ["--header", header]));
        arguments.extend(more);
        let [new, old] = [site.https("/-/reload", &arguments).await, {
            arguments.push("--http1.1");
            site.https("/-/reload", &arguments).await
        }];
        assert_eq!(new.status, old.status, "{headers:?}");
        old.status
    };
    for foreign in [
        &["Origin: https://evil.example"][..],
        &["Origin: null"],
        &["Origin: file://"],
        &["Origin: no address"],
        // The same machine, and another port or scheme: another site's server.
        &[&format!("Origin: https://{host}:1")],
        &[&format!("Origin: https://{host}")],
        &["Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: same-site"],
        &["Sec-Fetch-Site: of-tomorrow"],
        // A browser says both.
        &["Sec-Fetch-Site: cross-site", &own],
    ] {
        assert_eq!(ask(foreign, &[]).await, 403, "{foreign:?}");
    }
    // Nobody listens behind it, but the request came through.
    for own in [
        &[][..],
        &[own.as_str()],
        &["Sec-Fetch-Site: none", &own],
        &["Sec-Fetch-Site: none"],
        // Behind a proxy that does not pass on the name it is called by.
        &["Sec-Fetch-Site: same-origin", "Origin: https://proxy.example"],
    ] {
        assert_eq!(ask(own, &[]).await, 500, "{own:?}");
    }
    // The port that a scheme has anyway may be left out on either side.
    assert_eq!(ask(&["Origin: https://exporter.example", "Host: exporter.example:443"], &[]).await, 500);
    assert_eq!(ask(&["Origin: https://exporter.example", "Host: Exporter.example"], &[]).await, 500);
    assert_eq!(ask(&["Origin: http://exporter.example", "Host: exporter.example:443"], &[]).await, 403);
    // Whose password is wrong is told no more than that.
    let wrong = ["--request", "POST", "--header", "Origin: null", "--user", "alice:wrong"];
    assert_eq!(site.https("/-/reload", &wrong).await.status, 401);
    let read = ["--header", "Origin: https://evil.example", "--user", "alice:rabbit"];
    assert_eq!(site.https("/metrics", &read).await.status, 200);
}
