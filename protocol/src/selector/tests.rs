use super::*;
use proptest::prelude::*;

fn selector(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}
fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn each_form_matches_as_in_kubectl() {
    let lab = labels(&[("site", "lab"), ("gpu", "none")]);
    for text in ["", " ", "*", "all", "site", "site=lab", "site == lab", "gpu != h100", "!missing", "missing!=x"] {
        assert!(selector(text).matches(&lab), "{text}");
    }
    for text in ["site in (lab,home)", "site notin (home)", "missing notin (x)", "site=lab , gpu in ( none )"] {
        assert!(selector(text).matches(&lab), "{text}");
    }
    for text in ["missing", "!site", "site=home", "site!=lab", "site in (home)", "missing in (x)", "site=lab,gpu!=none", "site="]
    {
        assert!(!selector(text).matches(&lab), "{text}");
    }
}

#[test]
fn the_canonical_text_is_short_and_sorted() {
    assert_eq!(selector("").to_string(), "*");
    assert_eq!(selector(" a == b ,c in ( z , y,z ), !d,e").to_string(), "a=b,c in (y,z),!d,e");
}

#[test]
fn words_of_the_language_may_be_keys() {
    let odd = labels(&[("in", "notin"), ("all", "in")]);
    assert!(selector("in in (notin),all=in,all").matches(&odd));
}

#[test]
fn an_error_shows_the_place_and_what_was_expected() {
    let error = |text: &str| text.parse::<Selector>().unwrap_err();
    assert_eq!(error("site=lab,gpu!none").to_string(), "site=lab,gpu!none\n             ^ expected `=` after `!`");
    assert_eq!(error("site=lab,gpu!none").column(), 14);
    assert_eq!(error("a in (x").to_string(), "a in (x\n       ^ expected `,` or `)`, found the end");
    for (text, column, expected) in [
        ("a,", 3, "a label key"),
        (",a", 1, "a label key"),
        ("a=b c", 5, "found `c`"),
        ("a > 1", 3, "`notin`"),
        ("a in x", 6, "`(`"),
        ("é=1", 1, "found `é`"),
        ("a=é", 3, "found `é`"),
        ("a=-b", 3, "not a value"),
        ("-a=b", 1, "not a label key"),
        ("a=b)", 4, "found `)`"),
        ("*,a", 1, "found `*`"),
    ] {
        let error = error(text);
        assert_eq!(error.column(), column, "{text}: {error}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
        assert_eq!(error.to_string().lines().count(), 2, "{text}: {error}");
    }
}

#[test]
fn a_long_selector_is_refused_and_shown_in_part() {
    let error = format!("{}=x", "a".repeat(2_000)).parse::<Selector>().unwrap_err();
    assert!(error.message().contains("1024 bytes") && error.to_string().len() < 200, "{error}");
    let many = vec!["a"; MAX_REQUIREMENTS + 1].join(",");
    assert!(many.parse::<Selector>().unwrap_err().message().contains("32 requirements"));
    assert!(vec!["a"; MAX_REQUIREMENTS].join(",").parse::<Selector>().is_ok());
    let deep = format!("{},b=?", vec!["aaaaaaaaaaaaaaaa"; 20].join(","));
    let error = deep.parse::<Selector>().unwrap_err();
    let shown = error.to_string();
    let (line, caret) = shown.split_once('\n').unwrap();
    assert_eq!(line.chars().nth(caret.find('^').unwrap()), Some('?'));
}

fn part() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(b"ab1-_.".to_vec()), 1..6)
        .prop_map(|bytes| bytes.into_iter().map(char::from).collect::<String>())
        .prop_filter("a valid part", |part| crate::label::check_key(part).is_ok())
}
fn value() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just(String::new()), 6 => part()]
}
fn test() -> impl Strategy<Value = Test> {
    let set = || proptest::collection::btree_set(value(), 1..4);
    prop_oneof![
        Just(Test::Exists),
        Just(Test::Absent),
        value().prop_map(Test::Equals),
        value().prop_map(Test::Differs),
        set().prop_map(Test::In),
        set().prop_map(Test::NotIn),
    ]
}

proptest! {
    #[test]
    fn the_canonical_text_parses_to_the_same_selector(
        requirements in proptest::collection::vec((part(), test()).prop_map(|(key, test)| Requirement { key, test }), 0..8)
    ) {
        let selector = Selector(requirements);
        prop_assert_eq!(selector.to_string().parse(), Ok(selector));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        if let Err(error) = text.parse::<Selector>() {
            prop_assert_eq!(error.to_string().lines().count(), 2);
        }
    }

    #[test]
    fn no_text_of_the_language_s_own_characters_makes_the_parser_panic(
        bytes in proptest::collection::vec(prop::sample::select(b"ab,=!() in.-/*".to_vec()), 0..40)
    ) {
        let text: String = bytes.into_iter().map(char::from).collect();
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }
    }
}
