use super::*;

#[tokio::test]
async fn swr_pages_with_totals_and_an_empty_page_beyond_the_end() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let response = call_swr(&simulator, "/v2/manage/repos?limit=1&offset=1").await;
    assert_eq!(content_range(&response), Some("1-1/2"));
    let rows: Value = response.json().await.unwrap();
    assert_eq!(rows[0]["name"], "team/app");
    assert_eq!(rows[0]["total_range"], 2);
    let response = call_swr(&simulator, "/v2/manage/repos?limit=10&offset=10").await;
    assert_eq!(content_range(&response), Some("10-0/0"));
    assert_eq!(response.text().await.unwrap(), "[]");
    assert_eq!(content_range(&call_swr(&simulator, "/v2/manage/repos").await), None);
    assert_eq!(simulator.requests(Call::ListRepositories), 3);
}

#[tokio::test]
async fn swr_refuses_halves_of_pairs_and_numbers_out_of_range() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for query in [
        "limit=10",
        "offset=0",
        "limit=0&offset=0",
        "limit=1001&offset=0",
        "limit=10&offset=5",
        "limit=x&offset=0",
    ] {
        let refused = error(call_swr(&simulator, &format!("/v2/manage/repos?{query}")).await).await;
        assert_eq!(refused, (400, "\"SVCSTG.SWR.4001072\"".to_owned()), "{query}");
    }
    assert_eq!(call_swr(&simulator, "/v2/manage/shared-repositories?limit=10&offset=0").await.status(), 400);
    let filtered =
        call_swr(&simulator, "/v2/manage/repos?filter=name%3A%3Abusy%7Climit%3A%3A10%7Coffset%3A%3A0").await;
    assert_eq!(names(filtered, "name").await, ["busybox"]);
}

#[tokio::test]
async fn swr_addresses_nested_names_with_a_dollar() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for name in ["team$app", "team%24app"] {
        let tags =
            call_swr(&simulator, &format!("/v2/manage/namespaces/group/repos/{name}/tags?limit=10&offset=0"))
                .await;
        assert_eq!(content_range(&tags), Some("0-1/1"));
        assert_eq!(names(tags, "Tag").await, ["v1"]);
        let shown: Value = call_swr(&simulator, &format!("/v2/manage/namespaces/group/repos/{name}"))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!((&shown["name"], &shown["size"]), (&json!("team/app"), &json!(7)));
    }
    let refused = call_swr(&simulator, "/v2/manage/namespaces/group/repos/team%2Fapp/tags").await;
    assert_eq!(error(refused).await, (404, "\"APIGW.0101\"".to_owned()));
    let missing = call_swr(&simulator, "/v2/manage/namespaces/group/repos/none/tags").await;
    assert_eq!(error(missing).await, (404, "\"SVCSTG.SWR.4040113\"".to_owned()));
    simulator.edit(|world| world.swr.not_found_is_400 = true);
    assert_eq!(call_swr(&simulator, "/v2/manage/namespaces/group/repos/none").await.status(), 400);
}

#[tokio::test]
async fn swr_locks_a_key_after_five_refused_calls() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let target = "/v2/manage/repos";
    let now = Timestamp::now();
    for _ in 0..5 {
        let refused = call_swr_with(&simulator, target, "wrong", now).await;
        assert_eq!(error(refused).await, (401, "\"APIGW.0301\"".to_owned()));
    }
    assert_eq!(call_swr(&simulator, target).await.status(), 401);
    assert_eq!(simulator.edit(|world| world.swr.access_keys[0].refused_calls), 6);
    simulator.edit(|world| world.clock_offset = SignedDuration::from_secs(301));
    assert_eq!(call_swr(&simulator, target).await.status(), 200);
}

#[tokio::test]
async fn swr_judges_dates_by_its_own_clock_and_shows_it() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.edit(|world| world.clock_offset = SignedDuration::from_hours(1));
    let now = Timestamp::now();
    let refused = call_swr_with(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, now).await;
    assert_eq!(refused.status(), 401);
    let date = refused.headers()["date"].to_str().unwrap().to_owned();
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).unwrap();
    assert!(date.duration_since(now) > SignedDuration::from_mins(59), "{date}");
    let hour = SignedDuration::from_hours(1);
    assert_eq!(
        call_swr_with(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, now + hour).await.status(),
        200
    );
}

#[tokio::test]
async fn swr_lists_both_sides_of_sharing() {
    let mut world = small_world();
    world.swr.repositories.get_mut("group/busybox").unwrap().shared_by_me = true;
    let mut expired = Repository::new("theirs", "base");
    expired.share_is_valid = false;
    world.swr.add_shared_with_me(expired);
    let simulator = Simulator::start(world).await.unwrap();
    let mine = call_swr(&simulator, "/v2/manage/shared-repositories?center=self&limit=10&offset=0").await;
    assert_eq!(names(mine, "name").await, ["busybox"]);
    let theirs =
        call_swr(&simulator, "/v2/manage/shared-repositories?center=thirdparty&limit=10&offset=0").await;
    let theirs: Value = theirs.json().await.unwrap();
    assert_eq!((&theirs[0]["name"], &theirs[0]["status"]), (&json!("base"), &json!(false)));
}

#[tokio::test]
async fn compresses_for_those_who_ask() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let headers = signed_headers(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, Timestamp::now());
    let response = client_builder().no_gzip().build().unwrap();
    let response = response.get(format!("{}/v2/manage/repos", simulator.swr_url())).headers(headers);
    let response = response.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(names(call_swr(&simulator, "/v2/manage/repos").await, "name").await, ["busybox", "team/app"]);
}

#[tokio::test]
async fn swr_filters_organizations_fuzzily_or_exactly() {
    let mut world = small_world();
    world.swr.add(Repository::new("group2", "other"));
    let simulator = Simulator::start(world).await.unwrap();
    let target = "/v2/manage/repos?namespace=group&limit=10&offset=0";
    assert_eq!(names(call_swr(&simulator, target).await, "name").await, ["busybox", "team/app", "other"]);
    simulator.edit(|world| world.swr.namespace_is_fuzzy = false);
    let exact = call_swr(&simulator, target).await;
    assert_eq!(content_range(&exact), Some("0-2/2"));
    assert_eq!(names(exact, "name").await, ["busybox", "team/app"]);
}

#[tokio::test]
async fn swr_shows_any_value_a_test_puts_in() {
    let mut world = small_world();
    let repository = world.swr.repositories.get_mut("group/busybox").unwrap();
    repository.overrides.insert("size".to_owned(), Some(json!("large")));
    repository.overrides.insert("num_images".to_owned(), None);
    repository.tags[0].overrides.insert("digest".to_owned(), Some(Value::Null));
    let simulator = Simulator::start(world).await.unwrap();
    let rows: Value = call_swr(&simulator, "/v2/manage/repos").await.json().await.unwrap();
    assert_eq!((&rows[0]["size"], rows[0].get("num_images")), (&json!("large"), None));
    assert_eq!(rows[0]["tags"], json!(["latest", "v1", "v2"]));
    let tags = call_swr(&simulator, "/v2/manage/namespaces/group/repos/busybox/tags").await;
    let tags: Value = tags.json().await.unwrap();
    assert_eq!((&tags[0]["digest"], &tags[0]["deleted"]), (&Value::Null, &Value::Null));
    let manifest: Value = serde_json::from_str(tags[0]["manifest"].as_str().unwrap()).unwrap();
    assert_eq!(manifest["schemaVersion"], 2);
}

#[tokio::test]
async fn swr_tells_missing_permission_and_unknown_projects_from_wrong_keys() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let with = async |name: &'static str, value: &str| {
        let mut headers =
            signed_headers(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, Timestamp::now());
        headers.remove("authorization");
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        let keys = (keys::SWR_ACCESS_KEY, keys::SWR_SECRET_KEY);
        let authorization = sdk_authorization("GET", "/v2/manage/repos", &headers, b"", keys);
        headers.insert("authorization", HeaderValue::try_from(authorization).unwrap());
        client()
            .get(format!("{}/v2/manage/repos", simulator.swr_url()))
            .headers(headers)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(with("x-project-id", keys::PROJECT_ID).await.status(), 200);
    assert_eq!(error(with("x-project-id", "another").await).await, (403, "\"APIGW.0310\"".to_owned()));
    assert_eq!(with("x-security-token", "not needed").await.status(), 401);
    simulator.edit(|world| world.swr.access_keys[0].security_token = Some("needed".to_owned()));
    assert_eq!(with("x-security-token", "needed").await.status(), 200);
    assert_eq!(with("x-long", &"x".repeat(33 * 1024)).await.status(), 494);
    simulator.edit(|world| world.swr.access_keys[0].lacks_permission = true);
    let forbidden = with("x-security-token", "needed").await;
    assert_eq!(error(forbidden).await, (403, "\"SVCSTG.SWR.4030170\"".to_owned()));
}

#[tokio::test]
async fn swr_knows_no_calls_but_its_own() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for target in
        ["/", "/v2/manage/repos/", "/v3/manage/repos", "/v2/manage/namespaces/group/repos/team/app/tags"]
    {
        assert_eq!(
            error(call_swr(&simulator, target).await).await,
            (404, "\"APIGW.0101\"".to_owned()),
            "{target}"
        );
    }
    assert_eq!(
        (simulator.all_requests(), simulator.log().iter().filter(|e| e.call.is_none()).count()),
        (4, 4)
    );
}
