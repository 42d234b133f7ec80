//! The tensor lists that requests (`inputs`) and answers (`outputs`) have in common, both ways.
//!
//! Reading takes two passes over the JSON: the first reads everything but the values and so learns types and shapes, the second
//! reads the values straight into bytes of that type. No tree of JSON values is ever built, so 64 MiB of `0,0,0,…` stay cheap.

use super::{
    DataType, MAX_RANK, MAX_TENSORS, OipError, Parameter, Parameters, Tensor,
    data::{ArrayOf, Flat, Values, writable},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

/// A tensor without its values.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) name: String,
    datatype: DataType,
    #[serde(deserialize_with = "dims")]
    shape: Vec<usize>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Present,
}

/// Whether a field is there at all.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// At most `N` of something.
pub(super) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const N: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Bounded<T, N> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of at most {N}")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == N {
                    return Err(A::Error::custom(format_args!("more than {N} entries in one list")));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Bounded::<T, N>(PhantomData))
}

fn dims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    at_most::<D, usize, MAX_RANK>(deserializer)
}

pub(super) fn heads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Head>, D::Error> {
    at_most::<D, Head, MAX_TENSORS>(deserializer)
}

/// Splits a body into its JSON and its raw bytes.
pub(super) fn split(mut body: Bytes, header_length: Option<usize>) -> Result<(Bytes, Option<Bytes>), OipError> {
    if body.len() > super::MAX_BODY {
        return Err(OipError::TooLarge(body.len()));
    }
    match header_length {
        None => Ok((body, None)),
        Some(header) if header > body.len() => Err(OipError::HeaderLength { header, body: body.len() }),
        Some(header) => {
            let raw = body.split_off(header);
            Ok((body, Some(raw)))
        }
    }
}

/// Joins the heads with their values from the JSON (field `field`) and from the raw bytes.
pub(super) fn read(field: &'static str, json: &[u8], heads: &[Head], mut raw: Option<Bytes>) -> Result<Vec<Tensor>, OipError> {
    super::infer::unique(heads.iter().map(|head| head.name.as_str()))?;
    let mut slots = Vec::with_capacity(heads.len());
    for head in heads {
        let tensor = || head.name.clone();
        if head.parameters.get("shared_memory_region").is_some() {
            return Err(OipError::Unsupported { tensor: tensor(), feature: "shared memory" });
        }
        slots.push(match (head.data.0, head.parameters.count("binary_data_size")) {
            (true, None) => Slot::Json(Values::new(&head.name, head.datatype, &head.shape)?),
            (false, Some(size)) => {
                let rest = raw.as_mut().ok_or_else(|| OipError::NoBinaryPart { tensor: tensor() })?;
                let fits = usize::try_from(size).ok().filter(|size| *size <= rest.len());
                let size = fits.ok_or_else(|| OipError::Truncated { tensor: tensor(), size, left: rest.len() })?;
                Slot::Raw(rest.split_to(size))
            }
            _ => return Err(OipError::DataSource { tensor: tensor() }),
        });
    }
    if let Some(rest) = raw.filter(|rest| !rest.is_empty()) {
        return Err(OipError::TrailingBytes(rest.len()));
    }
    if slots.iter().any(|slot| matches!(slot, Slot::Json(_))) {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Document { field, slots: &mut slots }.deserialize(&mut deserializer)?;
    }
    let tensors = heads.iter().zip(slots).map(|(head, slot)| {
        let data = match slot {
            Slot::Json(values) => values.finish()?.into(),
            Slot::Raw(data) => data,
        };
        Tensor::new(head.name.clone(), head.datatype, head.shape.clone(), data)
    });
    tensors.collect()
}

enum Slot<'a> {
    Json(Values<'a>),
    Raw(Bytes),
}

/// The second pass: finds `field` and fills the slots in its order. The first pass has already refused what is there twice.
struct Document<'s, 'a> {
    field: &'static str,
    slots: &'s mut Vec<Slot<'a>>,
}
struct List<'s, 'a>(&'s mut Vec<Slot<'a>>);
struct Item<'s, 'a>(&'s mut Slot<'a>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}
impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.field {
                map.next_value_seed(List(&mut *self.slots))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}
impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of tensors")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for slot in self.0.iter_mut() {
            seq.next_element_seed(Item(slot))?;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}
impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.0 {
                Slot::Json(values) if key == "data" => map.next_value_seed(ArrayOf::new(values))?,
                _ => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

/// A tensor as it stands in the JSON part: with its values, or with `binary_data_size`.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    name: &'a str,
    datatype: DataType,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: Parameters,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Flat<'a>>,
}

impl<'a> Written<'a> {
    pub(super) fn new(tensor: &'a Tensor, binary: bool) -> Result<Self, OipError> {
        let mut parameters = Parameters::default();
        if binary {
            // A tensor is at most MAX_BODY bytes, so the size fits.
            parameters.set("binary_data_size", Parameter::Int(tensor.data().len() as i64));
        } else {
            writable(tensor)?;
        }
        let data = (!binary).then_some(Flat(tensor));
        Ok(Self { name: tensor.name(), datatype: tensor.datatype(), shape: tensor.shape(), parameters, data })
    }
}

/// The JSON part, then the raw bytes of the tensors that are sent raw.
pub(super) fn join<'a>(json: Vec<u8>, tensors: impl Iterator<Item = (&'a Tensor, bool)>) -> Result<super::Encoded, OipError> {
    let header = json.len();
    let (mut body, mut any) = (json, false);
    for (tensor, _) in tensors.filter(|(_, binary)| *binary) {
        any = true;
        if body.len() + tensor.data().len() > super::MAX_BODY {
            return Err(OipError::TooLarge(body.len() + tensor.data().len()));
        }
        body.extend_from_slice(tensor.data());
    }
    Ok(super::Encoded { body: body.into(), header_length: any.then_some(header) })
}
