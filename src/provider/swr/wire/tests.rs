use super::*;
use proptest::prelude::*;
use proptest::string::string_regex;

/// Rows of which everything could be read.
fn plain<T>(rows: Vec<T>, total: Option<u64>) -> Rows<T> {
    Rows { rows, total, unreadable: Unreadable::default() }
}

fn names(names: &[&'static str]) -> Option<u64> {
    let names = names.iter().map(|&name| Given::Yes(Text(name.into()))).collect();
    tag_names(Given::Yes(names), &mut Unreadable::default())
}

fn at(text: &str) -> Option<Timestamp> {
    Timestamp::from_nanoseconds(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond())
}

#[test]
fn decodes_the_vendors_example_of_the_list_of_repositories() {
    let answer = include_bytes!("../../../../tests/answers/swr-list-repositories.json");
    let expected = Repository {
        organization: "group".into(),
        name: "busybox".into(),
        size_bytes: Some(200_977_474),
        images: Some(2),
        downloads: Some(0),
        created: at("2021-06-10T03:24:44.784402Z"),
        updated: at("2021-06-10T03:40:59.199352Z"),
        public: Some(false),
        category: Some("linux".into()),
        image: Some("{Repository address}/group/busybox".into()),
        tag_names_hash: names(&["latest", "log"]),
    };
    assert_eq!(repositories(answer).unwrap(), plain(vec![expected], Some(1)));
}

#[test]
fn decodes_the_vendors_example_of_the_list_of_shared_repositories() {
    let answer = include_bytes!("../../../../tests/answers/swr-list-shared-repositories.json");
    let expected = SharedRepository {
        center: Center::ThirdParty,
        organization: "namespace".into(),
        name: "busybox".into(),
        size_bytes: Some(115_645_792),
        images: Some(1),
        downloads: Some(0),
        updated: at("2021-06-10T07:24:35.204517Z"),
        valid: Some(true),
        owner_account: Some("domain".into()),
        category: Some("other".into()),
    };
    let decoded = shared_repositories(answer, Center::ThirdParty).unwrap();
    assert_eq!(decoded, plain(vec![expected], Some(1)));
}

#[test]
fn decodes_the_vendors_example_of_the_list_of_tags() {
    let answer = include_bytes!("../../../../tests/answers/swr-list-tags.json");
    let expected = Tag {
        name: "latest".into(),
        size_bytes: Some(1_304_902),
        created: at("2018-07-06T06:18:55Z"),
        updated: at("2018-07-06T06:18:55Z"),
        last_pulled: None,
        info: Some(Box::new(TagInfo {
            digest: Some("sha256:57b605845a6367c34bfb6ea6477f16852f59aa1861a2b51d10ab77ae0a1dc9c3".into()),
            kind: Some("manifest"),
        })),
    };
    let bare = Tag { info: None, ..expected.clone() };
    assert_eq!(tags(answer, true).unwrap(), plain(vec![expected], None));
    assert_eq!(tags(answer, false).unwrap(), plain(vec![bare], None));
}

#[test]
fn decodes_the_vendors_example_of_a_single_repository() {
    let answer = include_bytes!("../../../../tests/answers/swr-show-repository.json");
    let expected = Repository {
        organization: "group".into(),
        name: "busybox".into(),
        size_bytes: Some(2_099_575),
        images: Some(1),
        downloads: Some(0),
        created: at("2021-06-02T09:59:25.51307Z"),
        updated: at("2021-06-02T17:59:25.538056Z"),
        public: Some(false),
        category: Some("other".into()),
        image: Some("{Repository address}/group/busybox".into()),
        tag_names_hash: None,
    };
    assert_eq!(repository(answer, "group", "busybox").unwrap(), plain(vec![expected], None));
}

#[test]
fn a_row_needs_nothing_but_its_names() {
    let bare = br#"[{"namespace":"o","name":"a/b"}]"#;
    let nulls =
        br#"[{"namespace":"o","name":"a/b","category":null,"size":null,"is_public":null,"num_images":null,
        "num_download":null,"created_at":null,"updated_at":null,"path":null,"tags":null,"status":null,
        "total_range":null,"domain_name":null}]"#;
    let expected = Repository { organization: "o".into(), name: "a/b".into(), ..Repository::default() };
    for answer in [&bare[..], nulls] {
        assert_eq!(repositories(answer).unwrap(), plain(vec![expected.clone()], None));
        assert_eq!(shared_repositories(answer, Center::Own).unwrap().rows[0].size_bytes, None);
    }
}

#[test]
fn null_and_an_empty_list_have_no_rows() {
    for answer in ["null", "[]", " [ ] ", "\u{feff}[]"] {
        assert_eq!(repositories(answer.as_bytes()).unwrap().rows, []);
        assert_eq!(shared_repositories(answer.as_bytes(), Center::Own).unwrap().rows, []);
        assert_eq!(tags(answer.as_bytes(), true).unwrap().rows, []);
    }
}

#[test]
fn answers_without_the_sign_of_a_list_are_errors() {
    for answer in [
        "",
        "{}",
        "<html>",
        "false",
        "0",
        "\"\"",
        r#"[{"namespace":"o","name":"n","Tag":"t"}"#,
        "[null]",
        "[7]",
        "[[]]",
        r#"[["o","n","t"]]"#,
        r#"{"repos":[]}"#,
        r#"{"error_code":"APIGW.0101","error_msg":"The API does not exist"}"#,
        r#"{"error":{"code":401,"message":"No"}}"#,
        r#"[{"errorCode":"SVCSTG.SWR.4001048","errorMessage":"No"}]"#,
        "[] []",
    ] {
        assert!(repositories(answer.as_bytes()).is_err(), "{answer}");
        assert!(shared_repositories(answer.as_bytes(), Center::Own).is_err(), "{answer}");
        assert!(tags(answer.as_bytes(), false).is_err(), "{answer}");
    }
    for answer in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"name":""}"#,
        r#"{"name":7}"#,
        r#"["busybox"]"#,
        r#"{"error_code":"APIGW.0101"}"#,
    ] {
        assert!(repository(answer.as_bytes(), "group", "busybox").is_err(), "{answer}");
    }
}

#[test]
fn rows_without_a_usable_name_are_errors() {
    for row in
        [r#"{"name":"n"}"#, r#"{"namespace":"o"}"#, r#"{"namespace":"o","name":""}"#, r#"{"Tag":null}"#]
    {
        let answer = format!("[{row}]");
        assert!(repositories(answer.as_bytes()).is_err(), "{row}");
        assert!(shared_repositories(answer.as_bytes(), Center::Own).is_err(), "{row}");
        assert!(tags(answer.as_bytes(), false).is_err(), "{row}");
    }
}

#[test]
fn names_that_no_registry_has_are_errors() {
    let long = "n".repeat(1025);
    for row in
        [format!(r#"{{"namespace":"o","name":"{long}"}}"#), format!(r#"{{"namespace":"{long}","name":"n"}}"#)]
    {
        assert!(repositories(format!("[{row}]").as_bytes()).is_err());
    }
    assert!(tags(format!(r#"[{{"Tag":"{long}"}}]"#).as_bytes(), false).is_err());
    // Other texts cost themselves.
    let answer = format!(r#"[{{"namespace":"o","name":"n","path":"{long}"}}]"#);
    let rows = repositories(answer.as_bytes()).unwrap();
    assert_eq!((&rows.rows[0].image, counts(&rows)), (&None, vec![("repository_info", 1)]));
}

fn counts<T>(rows: &Rows<T>) -> Vec<(&'static str, u64)> {
    rows.unreadable.counts().collect()
}

#[test]
fn an_odd_value_costs_itself_and_is_counted() {
    for (field, value, feeds) in [
        ("size", "\"a lot\"", "size_bytes"),
        ("size", "{}", "size_bytes"),
        ("size", "18446744073709551616", "size_bytes"),
        ("num_images", "true", "images"),
        ("num_images", "[2]", "images"),
        ("num_download", "1.5", "downloads"),
        ("num_download", "\"\"", "downloads"),
        ("updated_at", "1711928488000", "updated_timestamp_seconds"),
        ("updated_at", "\"yesterday\"", "updated_timestamp_seconds"),
        ("category", "7", "info"),
        ("category", "{}", "info"),
    ] {
        let answer = format!(r#"[{{"namespace":"o","name":"n","{field}":{value}}}]"#);
        let rows = repositories(answer.as_bytes()).unwrap();
        assert_eq!(&*rows.rows[0].name, "n");
        assert_eq!(counts(&rows), [(&*format!("repository_{feeds}"), 1)], "{field} {value}");
        let rows = shared_repositories(answer.as_bytes(), Center::ThirdParty).unwrap();
        assert_eq!(counts(&rows), [(&*format!("shared_repository_{feeds}"), 1)], "{field} {value}");
    }
    let feeds = |row: &str| {
        counts(&repositories(format!(r#"[{{"namespace":"o","name":"n",{row}}}]"#).as_bytes()).unwrap())
    };
    assert_eq!(feeds(r#""is_public":"true""#), [("repository_public", 1)]);
    assert_eq!(feeds(r#""created_at":0"#), [("repository_created_timestamp_seconds", 1)]);
    assert_eq!(feeds(r#""tags":"a""#), [("tag_names", 1)]);
    assert_eq!(feeds(r#""tags":[null,"a",7]"#), [("tag_names", 2)]);
    assert_eq!(feeds(r#""total_range":"many""#), [("total", 1)]);
    for (field, feeds) in [
        ("size", "tag_size_bytes"),
        ("created", "tag_created_timestamp_seconds"),
        ("updated", "tag_updated_timestamp_seconds"),
        ("digest", "tag_info"),
        ("tag_type", "tag_info"),
    ] {
        for value in ["{}", "[]", "true"] {
            let answer = format!(r#"[{{"Tag":"n","{field}":{value}}}]"#);
            assert_eq!(counts(&tags(answer.as_bytes(), true).unwrap()), [(feeds, 1)], "{field} {value}");
        }
    }
    let shown = repository(br#"{"name":"n","size":"200","num_images":"two","created":7}"#, "o", "n").unwrap();
    assert_eq!(shown.rows[0].size_bytes, Some(200));
    assert_eq!(counts(&shown), [("repository_created_timestamp_seconds", 1), ("repository_images", 1)]);
    // The same number as text is no odd value.
    let rows = repositories(br#"[{"namespace":"o","name":"n","size":"123","total_range":"1"}]"#).unwrap();
    assert_eq!((rows.rows[0].size_bytes, rows.total, counts(&rows)), (Some(123), Some(1), vec![]));
}

#[test]
fn tag_names_come_under_either_spelling() {
    let decoded =
        tags(br#"[{"Tag":"a"},{"tag":"b","tag_type":1},{"Tag":"c","tag":"c","tag_type":7}]"#, true).unwrap();
    let seen: Vec<_> = decoded.rows.iter().map(|tag| (&*tag.name, tag.info.as_ref().unwrap().kind)).collect();
    assert_eq!(seen, [("a", None), ("b", Some("index")), ("c", None)]);
}

#[test]
fn tells_whether_a_share_is_valid_only_where_the_api_knows() {
    let valid = |status: &str, center| {
        let answer = format!(r#"[{{"namespace":"o","name":"n","status":{status}}}]"#);
        shared_repositories(answer.as_bytes(), center).unwrap().rows[0].valid
    };
    assert_eq!(valid("true", Center::ThirdParty), Some(true));
    assert_eq!(valid("false", Center::ThirdParty), Some(false));
    assert_eq!(valid("false", Center::Own), None);
    assert_eq!(valid(r#""false \"total_ranage\" 4""#, Center::ThirdParty), None);
}

#[test]
fn total_is_what_the_rows_agree_on() {
    let total = |totals: &[&str]| {
        let row = |total: &&str| format!(r#"{{"namespace":"o","name":"n","total_range":{total}}}"#);
        let rows: Vec<_> = totals.iter().map(row).collect();
        repositories(format!("[{}]", rows.join(",")).as_bytes()).unwrap().total
    };
    assert_eq!(total(&["2", "2"]), Some(2));
    assert_eq!(total(&["null", "2"]), Some(2));
    assert_eq!(total(&["2", "3"]), None);
    assert_eq!(total(&["-1"]), None);
}

#[test]
fn reads_the_total_of_a_content_range() {
    for (value, total) in [
        ("0-100/137", Some(137)),
        ("100-37/137", Some(137)),
        ("items 0-9/10", Some(10)),
        ("0-0/*", None),
        ("0-1/", None),
        ("137", None),
        ("0-1/+1", None),
        ("0-1/99999999999999999999", None),
    ] {
        assert_eq!(content_range_total(value), total, "{value}");
    }
}

#[test]
fn reads_when_a_token_expires() {
    let answer =
        br#"{"token":{"expires_at":"2020-01-04T09:05:22.701000Z","methods":["password"],"catalog":[]}}"#;
    assert_eq!(token_expiry(answer).unwrap(), at("2020-01-04T09:05:22.701Z"));
    assert_eq!(token_expiry(br#"{"token":null}"#).unwrap(), None);
    assert!(token_expiry(b"<html>").is_err());
}

#[test]
fn reads_every_documented_error_body() {
    for body in [
        r#"[{"errorCode":"SVCSTG.SWR.1","errorMessage":"no","detail":""}]"#,
        r#"{"errors":[{"errorCode":"old","errorMessage":"old","detail":""}],"error_code":"SVCSTG.SWR.1",
            "error_msg":"no","details":[{"error_code":"x","error_msg":"x"}]}"#,
        r#"{"errors":[{"errorCode":"SVCSTG.SWR.1","errorMessage":"no"}]}"#,
        r#"{"errorCode":"SVCSTG.SWR.1","errorMsg":"no"}"#,
        r#"{"error_msg":"no","error_code":"SVCSTG.SWR.1","request_id":"r"}"#,
        r#"{"error":{"code":"SVCSTG.SWR.1","message":"no","title":"Unauthorized"}}"#,
    ] {
        let refusal = classify(500, body.as_bytes());
        assert_eq!(refusal.code.as_deref(), Some("SVCSTG.SWR.1"), "{body}");
        assert_eq!(refusal.message.as_deref(), Some("no"), "{body}");
    }
    let refusal = classify(401, br#"{"error":{"code":401,"message":"wrong","title":"Unauthorized"}}"#);
    assert_eq!(refusal.code.as_deref(), Some("401"));
}

#[test]
fn says_what_to_do_where_the_code_tells_more_than_the_words() {
    let cure =
        |code: &str| classify(401, format!(r#"{{"error_code":"{code}","error_msg":"No"}}"#).as_bytes());
    for code in ["APIGW.0307", "APIG.0310", "SVCSTG.SWR.4010000"] {
        let refusal = cure(code);
        assert_eq!((refusal.message.as_deref(), refusal.cure.is_some()), (Some("No"), true), "{code}");
    }
    assert_eq!(cure("APIGW.0301").cure, None);
}

#[test]
fn classifies_by_status_and_by_the_codes_that_say_otherwise() {
    for (status, code, reason, retry) in [
        (401, "APIGW.0301", Reason::Unauthorized, false),
        (401, "APIGW.0307", Reason::Unauthorized, false),
        (403, "SVCSTG.SWR.4030170", Reason::Forbidden, false),
        (403, "SVCSTG.SWR.4031032", Reason::Throttled, true),
        (403, "SVCSTG.SWR.4031042", Reason::Throttled, true),
        (429, "APIGW.0308", Reason::Throttled, true),
        (403, "APIG.0308", Reason::Throttled, true),
        (404, "SVCSTG.SWR.4040113", Reason::NotFound, false),
        (400, "SVCSTG.SWR.4040113", Reason::NotFound, false),
        (400, "SVCSTG.SWR.4001158", Reason::Protocol, false),
        (400, "SVCSTG.SWR.4001025", Reason::Protocol, false),
        (409, "SVCSTG.SWR.4090023", Reason::Protocol, false),
        (500, "SVCSTG.SWR.5000308", Reason::Server, true),
        (502, "", Reason::Server, true),
    ] {
        let body = format!(r#"[{{"errorCode":"{code}"}}]"#);
        let refusal = classify(status, body.as_bytes());
        assert_eq!((refusal.reason, refusal.retry), (reason, retry), "{status} {code}");
        assert_eq!(refusal.status, status);
    }
}

#[test]
fn only_the_api_itself_says_that_something_is_gone() {
    for (status, code, gone) in [
        (404, "SVCSTG.SWR.4040113", true),
        (400, "SVCSTG.SWR.4040113", true),
        (404, "SVCSTG.SWR.4040058", true),
        (404, "SVCSTG.SWR.4041061", true),
        (404, "SVCSTG.SWR.4040083", false),
        (404, "APIGW.0101", false),
        (404, "APIG.4040113", false),
        (400, "SVCSTG.SWR.4000306", false),
        (403, "SVCSTG.SWR.4040113", false),
        (404, "404", false),
    ] {
        let body = format!(r#"{{"errors":[{{"errorCode":"{code}","errorMessage":"No"}}]}}"#);
        assert_eq!(is_gone(&classify(status, body.as_bytes())), gone, "{status} {code}");
    }
    for body in
        ["", "<html><title>Not Found</title></html>", r#"{"error":{"code":404,"message":"no project"}}"#]
    {
        assert!(!is_gone(&classify(404, body.as_bytes())), "{body}");
    }
}

/// Bytes of any kind, text that begins like an answer, and JSON whose values have any type.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let key =
        "namespace|name|size|tags|status|created_at|updated|Tag|error|errors|details|errorCode|code|message";
    let value = r#"null|true|-1|1\.5|1e99|"[^"\\]{0,9}"|\[\]|\{\}|\[1\]"#;
    let row = format!(r#"[\[ ]?\{{"({key})":({value}),"({key})":({value})\}}[\] ]?"#);
    prop_oneof![any::<Vec<u8>>(), string_regex(&row).unwrap().prop_map(String::into_bytes)]
}

proptest! {
    #[test]
    fn no_answer_makes_a_decoder_panic(body in anything(), status in 100_u16..600) {
        let _ = repositories(&body);
        let _ = shared_repositories(&body, Center::ThirdParty);
        let _ = tags(&body, true);
        let _ = repository(&body, "group", "busybox");
        let _ = token_expiry(&body);
        let _ = content_range_total(&String::from_utf8_lossy(&body));
        prop_assert_eq!(classify(status, &body).status, status);
    }
}
