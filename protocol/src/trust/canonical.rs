//! Canonical JSON: the one way in which a signed part is written before it is signed or verified.
//!
//! It is OLPC's form as the TUF reference implementation writes it: keys in the order of their code points, no white space,
//! only `"` and `\` escaped, integers only. Strings stay as they are: normalising them (as the crate `olpc-cjson` does) would
//! give two different documents the same signature.

use serde_json::Value;

/// A value that canonical JSON cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds a number that is not a whole number of 64 bits; write it as text")]
pub struct CanonicalError;

/// The canonical bytes of `value`.
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) if number.is_f64() => return Err(CanonicalError),
        Value::Number(number) => out.extend(number.to_string().bytes()),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            // The order of UTF-8 bytes is that of code points.
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(key, out);
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).unwrap()).unwrap()
    }

    #[test]
    fn it_writes_what_the_reference_implementation_writes() {
        // As securesystemslib.formats.encode_canonical 1.4.0 gives them.
        assert_eq!(text(&json!({"a": 1, "a b": 2, "a!": 3})), r#"{"a":1,"a b":2,"a!":3}"#);
        assert_eq!(text(&json!([true, false, null, -7, u64::MAX])), "[true,false,null,-7,18446744073709551615]");
        assert_eq!(text(&json!("a\"b\\c\nd\u{1}é")), "\"a\\\"b\\\\c\nd\u{1}é\"");
    }

    #[test]
    fn two_spellings_of_one_character_stay_two() {
        let both = json!({"\u{e9}": "good", "e\u{301}": "evil"});
        assert_eq!(text(&both), "{\"e\u{301}\":\"evil\",\"\u{e9}\":\"good\"}");
    }

    #[test]
    fn a_fraction_is_refused() {
        for value in [json!(1.5), json!({"a": [1.0]}), json!(1e300)] {
            assert_eq!(canonical(&value), Err(CanonicalError));
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é\u{301} !]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\é\u{301} !]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn different_values_have_different_canonical_bytes(a in values(), b in values()) {
            prop_assert_eq!(a == b, canonical(&a).unwrap() == canonical(&b).unwrap());
        }
    }
}
