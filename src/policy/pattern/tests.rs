use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

#[test]
fn a_pattern_takes_exactly_its_paths() {
    let table = [
        ("/", &["/"][..], &["/a", "/a/", ""][..]),
        ("/**", &["/a", "/a/", "/a/b"], &["/"]),
        ("/v1/orders", &["/v1/orders"], &["/v1/orders/", "/v1", "/V1/orders", "/v1/ordersX"]),
        ("/v1/orders/**", &["/v1/orders/1", "/v1/orders/1/", "/v1/orders/1/2"], &["/v1/orders", "/v1/orders/"]),
        ("/v1/*/x", &["/v1/a/x", "/v1/a%2Fb/x"], &["/v1//x", "/v1/a/b/x", "/v1/x"]),
        ("/v1/orders/", &["/v1/orders/"], &["/v1/orders", "/v1/orders//"]),
        ("/o/{id:int}", &["/o/0", "/o/007"], &["/o/", "/o/1a", "/o/-1"]),
        ("/o/{id:hex}", &["/o/0aF"], &["/o/g", "/o/"]),
        ("/o/{id:slug}", &["/o/a-1", "/o/a"], &["/o/A", "/o/a-", "/o/a--b", "/o/"]),
        ("/o/{d:date}", &["/o/2024-02-29"], &["/o/2023-02-29", "/o/2024-13-01", "/o/2024-00-10", "/o/2024-1-1"]),
        ("/o/{u:uuid}", &["/o/0f8fad5b-d9cb-469f-a165-70867728950E"], &["/o/0f8fad5bd9cb469fa16570867728950e"]),
    ];
    for (text, yes, no) in table {
        for path in yes {
            assert!(pattern(text).matches(path), "{text} must take {path}");
        }
        for path in no {
            assert!(!pattern(text).matches(path), "{text} must not take {path}");
        }
    }
}

#[test]
fn a_denial_takes_the_trailing_slash_too() {
    let table = [
        ("/", &["/"][..], &["/a", "/a/"][..]),
        ("/**", &["/a", "/a/", "/a/b"], &["/"]),
        ("/v1/orders", &["/v1/orders", "/v1/orders/"], &["/v1", "/v1/", "/v1/orders/1"]),
        ("/v1/orders/", &["/v1/orders/"], &["/v1/orders"]),
        ("/v1/{id:int}", &["/v1/7", "/v1/7/"], &["/v1/x/", "/v1/", "/v1/7/8"]),
        ("/a/**", &["/a/b", "/a/b/", "/a/b/c/"], &["/", "/a", "/a/", "/b", "/ab", "/ab/"]),
        ("/a/*/**", &["/a/b/c"], &["/a", "/a/", "/a/b", "/a/b/"]),
    ];
    for (text, yes, no) in table {
        let denied = pattern(text).with_slash();
        assert!(denied.iter().all(|one| one.as_str() == text), "{text}");
        for path in yes {
            assert!(denied.iter().any(|one| one.matches(path)), "a denial of {text} must take {path}");
        }
        for path in no {
            assert!(!denied.iter().any(|one| one.matches(path)), "a denial of {text} must not take {path}");
        }
    }
}

#[test]
fn a_flawed_pattern_says_what_is_wrong() {
    let table = [
        ("", "bad-path"),
        ("v1", "bad-path"),
        ("/v1/**/x", "bad-path"),
        ("/v1//x", "bad-path"),
        ("/v1/a*", "bad-path"),
        ("/v1/{id", "bad-path"),
        ("/v1/{Id}", "bad-path"),
        ("/v1/{id:float}", "bad-path"),
        ("/v1/{id}/{id}", "bad-path"),
        ("/v1/../x", "bad-path"),
        ("/v1/x;y", "bad-path"),
        ("/v1?x=1", "bad-path"),
        ("/v1#x", "bad-path"),
        ("/v1/a b", "bad-path"),
        ("/v1/ä", "bad-path"),
        ("/v1/%2F", "bad-path"),
        ("/v1/%c3", "bad-path"),
        ("/v1/%41", "bad-path"),
        ("/v1/%4", "bad-path"),
        ("/v1/.*", "regex-in-path"),
        ("^/v1", "regex-in-path"),
        ("/v1$", "regex-in-path"),
        ("/v1/\\d+", "regex-in-path"),
        ("/v1/(a|b)", "regex-in-path"),
        ("/v1/[0-9]", "regex-in-path"),
    ];
    for (text, code) in table {
        assert_eq!(Pattern::parse(text).unwrap_err().code, code, "{text}");
    }
    assert_eq!(Pattern::parse(&format!("/{}", "a".repeat(2000))).unwrap_err().code, "bad-path");
    assert_eq!(Pattern::parse(&"/a".repeat(100)).unwrap_err().code, "bad-path");
}

#[test]
fn a_parameter_is_bound_to_its_segment() {
    let orders = pattern("/v1/{tenant}/orders/{id:int}");
    assert_eq!(orders.bind("tenant", "/v1/acme/orders/7").as_deref(), Some("acme"));
    assert_eq!(orders.bind("id", "/v1/acme/orders/7").as_deref(), Some("7"));
    assert_eq!(orders.bind("other", "/v1/acme/orders/7"), None);
    assert_eq!(orders.parameters().collect::<Vec<_>>(), ["tenant", "id"]);
}

#[test]
fn the_root_below_a_base_is_the_base_with_and_without_a_slash() {
    let texts = |patterns: Vec<Pattern>| patterns.iter().map(|one| one.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(pattern("/").under("/v1")), ["/v1", "/v1/"]);
    assert_eq!(texts(pattern("/x/**").under("/v1")), ["/v1/x/**"]);
    assert_eq!(texts(pattern("/").under("")), ["/"]);
    assert!(pattern("/").under("/v1").iter().all(|one| one.matches(one.as_str())));
}

/// Words of each class that the types can tell apart, two of every type, for a literal does not cover its type: so
/// looking at all paths of these words decides `intersects` and `covers`.
const WORDS: [&str; 11] = [
    "1",
    "2",
    "a",
    "A",
    "z",
    "x_y",
    "2024-02-29",
    "2025-01-31",
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    "0F8FAD5B-D9CB-469F-A165-70867728950E",
    "other",
];

fn all_paths() -> Vec<String> {
    let mut paths = vec!["/".to_owned()];
    let mut level = vec![String::new()];
    for _ in 0..4 {
        level = level.iter().flat_map(|path| WORDS.iter().map(move |word| format!("{path}/{word}"))).collect();
        paths.extend(level.iter().cloned());
        if level.len() < 2000 {
            paths.extend(level.iter().map(|path| format!("{path}/")));
        }
    }
    paths
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let segment = prop_oneof![
        4 => proptest::sample::select(&WORDS[..]).prop_map(str::to_owned),
        2 => Just("*".to_owned()),
        4 => proptest::sample::select(&["int", "uuid", "slug", "hex", "date"][..])
            .prop_map(|kind| format!("{{p:{kind}}}")),
    ];
    let end = proptest::sample::select(&["", "/", "/**"][..]);
    (proptest::collection::vec(segment, 0..3), end).prop_map(|(segments, end)| {
        let text: String = segments
            .iter()
            .enumerate()
            .map(|(at, text)| format!("/{}", text.replace("{p", &format!("{{p{at}"))))
            .collect();
        let text = format!("{text}{end}");
        pattern(if text.is_empty() { "/" } else { &text })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_algebra_agrees_with_trying_every_path(one in any_pattern(), two in any_pattern()) {
        let paths = all_paths();
        let both = paths.iter().find(|path| one.matches(path) && two.matches(path));
        prop_assert_eq!(one.intersects(&two), both.is_some(), "{:?} {:?} {:?}", one, two, both);
        let only_two = paths.iter().find(|path| two.matches(path) && !one.matches(path));
        prop_assert_eq!(one.covers(&two), only_two.is_none(), "{:?} {:?} {:?}", one, two, only_two);
    }

    #[test]
    fn a_pattern_takes_what_its_segments_take(
        pattern in any_pattern(),
        path in "(/(a%2Cb|a,b|7)){1,3}/?",
        text in "(/(a%2Cb|a,b|7)){1,2}(/?|/\\*\\*)",
        base in "(/(a,b|7)){0,2}",
    ) {
        let written = Pattern::parse(&text).unwrap();
        let made = [written.clone().with_slash(), written.under(&base), written.collection().into_iter().collect()];
        for pattern in [&pattern, &written].into_iter().chain(made.iter().flatten()) {
            prop_assert_eq!(pattern.matches(&path), pattern.holds(0, path.strip_prefix('/')), "{:?} {}", pattern, path);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        if let Ok(read) = Pattern::parse(&text) {
            prop_assert_eq!(read.as_str(), text);
        }
    }
}
