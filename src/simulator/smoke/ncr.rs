use super::*;

#[tokio::test]
async fn ncr_pages_by_number_below_every_base_path() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for base in ["/ncr/api/v2", "/ncr/sgn-api/v2", "/ncr/jpn-api/v2", "/ncr/kr/v2", "/ncr/krs/v2"] {
        let page =
            call_ncr_below(&simulator, base, "/repositories/prod?page=1&pagesize=1", Timestamp::now()).await;
        let page: Value = page.json().await.unwrap();
        assert_eq!((&page["count"], &page["next"], &page["previous"]), (&json!(2), &json!(2), &Value::Null));
    }
    let last: Value =
        call_ncr(&simulator, "/repositories/prod?page=2&pagesize=1").await.json().await.unwrap();
    assert_eq!((&last["next"], &last["previous"]), (&Value::Null, &json!(1)));
    assert_eq!(names(call_ncr(&simulator, "/repositories").await, "name").await, ["prod"]);
    assert_eq!(names(call_ncr(&simulator, "/repositories/prod/team%2Fapp/tags").await, "name").await, ["v1"]);
    let missed = call_ncr(&simulator, "/repositories/prod/team/app/tags").await;
    assert_eq!(error(missed).await, (404, "\"300\"".to_owned()));
    for query in ["page=0", "pagesize=0", "pagesize=101", "page=x"] {
        assert_eq!(call_ncr(&simulator, &format!("/repositories?{query}")).await.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn ncr_refuses_stale_signatures_and_missing_permission() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let stale = Timestamp::now() - SignedDuration::from_secs(310);
    let refused = call_ncr_below(&simulator, "/ncr/api/v2", "/repositories", stale).await;
    assert_eq!(error(refused).await, (401, "\"200\"".to_owned()));
    simulator.edit(|world| {
        world.ncr.access_keys[0].lacks_permission = true;
        world.ncr.error_shape = ErrorShape::NcrNumber;
    });
    assert_eq!(error(call_ncr(&simulator, "/repositories").await).await, (401, "210".to_owned()));
}

#[tokio::test]
async fn ncr_beyond_the_end_is_an_empty_page_or_not_found() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    assert_eq!(names(call_ncr(&simulator, "/repositories/prod?page=9").await, "name").await, [""; 0]);
    simulator.edit(|world| world.ncr.past_the_end = PastTheEnd::Status(404));
    assert_eq!(call_ncr(&simulator, "/repositories/prod?page=9").await.status(), 404);
    assert_eq!(call_ncr(&simulator, "/repositories/none").await.status(), 404);
    assert_eq!(call_ncr(&simulator, "/repositories/prod/none/tags").await.status(), 404);
}

#[tokio::test]
async fn ncr_takes_the_target_as_it_was_sent() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for below in ["/repositories?pagesize=1&page=1&", "/repositories?", "/repositories/prod/team%2fapp/tags"]
    {
        assert_eq!(call_ncr(&simulator, below).await.status(), 200, "{below}");
    }
    simulator.edit(|world| world.ncr.plain_text_content_type = true);
    let plain = call_ncr(&simulator, "/repositories").await;
    assert_eq!(plain.headers()["content-type"], "text/plain;charset=UTF-8");
}
