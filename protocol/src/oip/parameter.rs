//! `parameters`: small maps of scalars on requests, answers and tensors.

use super::MAX_PARAMETERS;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};

/// One value; the protocol allows scalars only.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
}

/// At most [`MAX_PARAMETERS`] named scalars.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Parameters(BTreeMap<String, Parameter>);

impl Parameters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// One value.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.0.get(name)
    }
    /// Sets one value.
    pub fn set(&mut self, name: &str, value: Parameter) {
        self.0.insert(name.to_owned(), value);
    }
    /// A flag; absent or of another kind is `None`.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name)? {
            Parameter::Bool(flag) => Some(*flag),
            Parameter::Int(number) => Some(*number != 0),
            _ => None,
        }
    }
    /// A count; absent, negative or of another kind is `None`.
    pub fn count(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Parameter::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Parameters;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings, numbers and booleans")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if entries.len() == MAX_PARAMETERS {
                        return Err(A::Error::custom(format_args!("more than {MAX_PARAMETERS} parameters")));
                    }
                    entries.insert(key, map.next_value::<Scalar>()?.0);
                }
                Ok(Parameters(entries))
            }
        }
        deserializer.deserialize_map(Bounded)
    }
}

/// Reads one [`Parameter`] without first building whatever else stands there, as an untagged enum would.
struct Scalar(Parameter);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(Parameter::Bool(value)))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(Parameter::Int(value)))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(i64::try_from(value).map_or(Parameter::Float(value as f64), Parameter::Int)))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(Parameter::Float(value)))
            }
            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(Parameter::Text(value.to_owned())))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
