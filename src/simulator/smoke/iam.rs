use super::*;

#[tokio::test]
async fn iam_gives_a_token_that_swr_takes_until_it_expires() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let ask = |password: &str, scope: Value| {
        let user =
            json!({"domain": {"name": keys::IAM_ACCOUNT}, "name": keys::IAM_USER, "password": password});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        client().post(format!("{}/v3/auth/tokens?nocatalog=true", simulator.iam_url())).json(&body).send()
    };
    let use_token = |token: HeaderValue| {
        client().get(format!("{}/v2/manage/repos", simulator.swr_url())).header("x-auth-token", token).send()
    };
    let project = json!({"project": {"name": keys::REGION}});
    let response = ask(keys::IAM_PASSWORD, project.clone()).await.unwrap();
    assert_eq!(response.status(), 201);
    let token = response.headers()["x-subject-token"].clone();
    assert_eq!(token.len(), 7 * 1024);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["token"]["project"]["id"], keys::PROJECT_ID);
    assert!(body["token"]["expires_at"].as_str().unwrap().len() == "2020-01-04T09:05:22.701000Z".len());
    assert_eq!(use_token(token.clone()).await.unwrap().status(), 200);

    let account = json!({"domain": {"name": keys::IAM_ACCOUNT}});
    let response = ask(keys::IAM_PASSWORD, account).await.unwrap();
    assert_eq!(use_token(response.headers()["x-subject-token"].clone()).await.unwrap().status(), 401);

    assert_eq!(error(ask("wrong", project.clone()).await.unwrap()).await, (401, "401".to_owned()));
    assert_eq!(
        error(ask(keys::IAM_PASSWORD, json!({"project": {}})).await.unwrap()).await,
        (400, "400".to_owned())
    );

    simulator.edit(|world| world.clock_offset = SignedDuration::from_hours(25));
    assert_eq!(use_token(token).await.unwrap().status(), 401);
}

#[tokio::test]
async fn iam_token_of_another_region_must_be_updated() {
    let mut world = small_world();
    let now = world.now();
    world.iam.projects.push(Project { id: "elsewhere".to_owned(), name: "eu-west-101".to_owned() });
    world.iam.tokens.push(IamToken {
        value: "token".to_owned(),
        expires_at: now + SignedDuration::from_hours(1),
        project_id: Some("elsewhere".to_owned()),
        lacks_permission: false,
    });
    let simulator = Simulator::start(world).await.unwrap();
    let call =
        client().get(format!("{}/v2/manage/repos", simulator.swr_url())).header("x-auth-token", "token");
    assert_eq!(error(call.send().await.unwrap()).await, (401, "\"APIGW.0307\"".to_owned()));
}
