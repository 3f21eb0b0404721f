use super::*;

#[tokio::test]
async fn faults_hit_their_requests_and_the_log_tells() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let throttled =
        ErrorBody::new(ErrorShape::Gateway, "APIGW.0308", "The throttling threshold has been reached");
    let fault = Fault::Status { code: 429, retry_after: Some("1".to_owned()), body: throttled };
    simulator.fault(Call::ListRepositories, fault).times(1);
    let target = "/v2/manage/repos?limit=1&offset=0";
    let response = call_swr(&simulator, target).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &HeaderValue::from_static("1"))
    );
    assert_eq!(call_swr(&simulator, target).await.status(), 200);
    let log = simulator.log();
    assert_eq!(log.iter().map(|exchange| exchange.status).collect::<Vec<_>>(), [Some(429), Some(200)]);
    assert!(log[0].header("authorization").unwrap().starts_with("SDK-HMAC-SHA256 Access=MADEUP"));
    assert!(log[0].ended.unwrap() <= log[1].started);
    assert_eq!(simulator.most_in_flight(Call::ListRepositories), 1);
}

#[tokio::test]
async fn a_shift_while_paging_hides_a_row() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let tags = "/v2/manage/namespaces/group/repos/busybox/tags?limit=1&offset";
    simulator.fault(Call::ListTags, Fault::ShiftByLuck).times(1);
    let mut seen = Vec::new();
    for offset in 0..3 {
        let page = call_swr(&simulator, &format!("{tags}={offset}")).await;
        assert_eq!(content_range(&page), Some(format!("{offset}-1/3").as_str()));
        seen.extend(names(page, "Tag").await);
    }
    assert_eq!(seen, ["latest", "v2", "latest-more"]);
}

#[tokio::test]
async fn endless_pages_are_full_and_name_no_total() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.fault(Call::ListRepositories, Fault::EndlessPages);
    let page = call_swr(&simulator, "/v2/manage/repos?limit=3&offset=3").await;
    assert_eq!(content_range(&page), None);
    assert_eq!(names(page, "name").await, ["team/app-3", "busybox-4", "team/app-5"]);
}

#[tokio::test]
async fn broken_answers_break_on_the_wire() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let target = "/v2/manage/repos";
    let send = || {
        let headers = signed_headers(&simulator, target, keys::SWR_SECRET_KEY, Timestamp::now());
        client().get(format!("{}{target}", simulator.swr_url())).headers(headers)
    };
    let fault = simulator.fault(Call::ListRepositories, Fault::Reset);
    assert!(send().send().await.is_err());
    fault.end();
    let fault = simulator.fault(Call::ListRepositories, Fault::Truncate);
    assert!(send().send().await.unwrap().bytes().await.is_err());
    fault.end();
    let fault = simulator.fault(Call::ListRepositories, Fault::Hang);
    assert!(send().timeout(Duration::from_millis(50)).send().await.unwrap_err().is_timeout());
    fault.end();
    simulator.fault(Call::ListRepositories, Fault::HugeBody);
    let mut body = send().send().await.unwrap();
    assert!(body.chunk().await.unwrap().unwrap().iter().all(|byte| *byte == b' '));
}

#[tokio::test]
async fn stopping_ends_calls_that_hang() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.fault(Call::ListRepositories, Fault::Hang);
    let headers = signed_headers(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, Timestamp::now());
    let call = client().get(format!("{}/v2/manage/repos", simulator.swr_url())).headers(headers).send();
    let call = tokio::spawn(call);
    while simulator.requests(Call::ListRepositories) == 0 {
        tokio::task::yield_now().await;
    }
    drop(simulator);
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn ncr_pages_can_shift_repeat_and_lie() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let page = async |page: usize| -> Value {
        call_ncr(&simulator, &format!("/repositories/prod?page={page}&pagesize=1"))
            .await
            .json()
            .await
            .unwrap()
    };
    let fault = simulator.fault(Call::ListImages, Fault::RepeatPage).repository("prod");
    assert_eq!(page(1).await, page(2).await);
    fault.end();
    let fault = simulator.fault(Call::ListImages, Fault::WrongTotal(5));
    assert_eq!(page(1).await["count"], 7);
    fault.end();
    let fault = simulator.fault(Call::ListImages, Fault::NoTotal);
    assert!(page(1).await.get("count").is_none());
    fault.end();
    let fault = simulator.fault(Call::ListImages, Fault::EndlessPages);
    assert_eq!(page(100).await["next"], 101);
    fault.end();
    simulator.fault(Call::ListImages, Fault::ShiftWhilePaging);
    assert_eq!(page(1).await["results"][0]["name"], "team/app");
    let second = page(2).await;
    assert_eq!((&second["count"], &second["results"]), (&json!(1), &json!([])));
}

#[tokio::test]
async fn wrong_types_keep_the_shape_of_the_answer() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.fault(Call::ListRepositories, Fault::WrongTypes);
    let rows: Value = call_swr(&simulator, "/v2/manage/repos").await.json().await.unwrap();
    let row = &rows[0];
    assert_eq!(
        (&row["name"], &row["size"], &row["is_public"]),
        (&json!(7), &json!("many"), &json!("perhaps"))
    );
}

#[tokio::test]
async fn a_refused_key_is_locked_like_a_wrong_one() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.fault(Call::ListRepositories, Fault::Unauthorized).times(5);
    for _ in 0..6 {
        assert_eq!(call_swr(&simulator, "/v2/manage/repos").await.status(), 401);
    }
    assert!(simulator.edit(|world| world.swr.access_keys[0].locked_until.is_some()));
}

#[tokio::test]
async fn the_log_is_bounded_and_can_be_emptied() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.edit(|world| world.log_limit = 2);
    for offset in 0..3 {
        call_swr(&simulator, &format!("/v2/manage/repos?limit=1&offset={offset}")).await;
    }
    let targets: Vec<String> = simulator.log().into_iter().map(|exchange| exchange.target).collect();
    assert_eq!(targets, ["/v2/manage/repos?limit=1&offset=1", "/v2/manage/repos?limit=1&offset=2"]);
    assert!(simulator.log().iter().all(|exchange| exchange.status == Some(200)));
    simulator.clear_log();
    assert_eq!((simulator.log().len(), simulator.all_requests()), (0, 0));
}
