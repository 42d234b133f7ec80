//! Frames of the link: the prost types of `link.proto`, their limits and their codec.
//!
//! A frame is checked against [`MAX_FRAME_BYTES`] before it is parsed, and against its own kind's limits right after,
//! so that no later code meets an unbounded list. Nothing here knows which transport carries the bytes.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// The messages of `proto/link.proto`.
#[allow(missing_docs, clippy::all)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/aidos.link.v1.rs"));
}
pub use wire::*;

/// The newest version this code speaks.
pub const VERSION: u32 = 1;
/// The oldest version this code still understands.
pub const MIN_VERSION: u32 = 1;
/// ALPN of the QUIC link.
pub const ALPN: &[u8] = b"aidos-link/1";
/// The longest frame either side sends or takes: an inference request of a 512×512 RGB f32 image does not fit, which goes
/// over HTTP; a twin document and a batch of telemetry do, many times.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Samples in one telemetry batch.
pub const MAX_SAMPLES: usize = 1_024;
/// Metrics in one telemetry batch.
pub const MAX_METRICS: usize = 256;
/// Entries of a device's status.
pub const MAX_STATUS_ENTRIES: usize = 1_024;
/// Bytes of one status value or path together.
pub const MAX_STATUS_VALUE_BYTES: usize = 32 * 1024;
/// Heads of an automerge document; more means a forged or broken document.
pub const MAX_HEADS: usize = 64;
/// Bases in one request for an artifact: the versions of one model that a device keeps, and some of its other files.
pub const MAX_BASES: usize = 8;
/// Site changes in one frame; further ones follow in the next.
pub const MAX_SITE_CHANGES: usize = 256;

/// Revoked devices in one list: 16 KB. Their certificates end by themselves within weeks, and who revokes more than this at once
/// makes a new tenant.
pub const MAX_REVOCATIONS: usize = 1_000;

/// Why bytes are not a frame this side takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("frame of {0} bytes, the limit is {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not protobuf, or without a body.
    #[error("frame is malformed: {0}")]
    Malformed(String),
    /// A version outside [`MIN_VERSION`]..=[`VERSION`].
    #[error("frame of version {0}, this side speaks {MIN_VERSION} to {VERSION}")]
    Version(u32),
    /// A list or value beyond its limit.
    #[error("{what}: {is}, the limit is {limit}")]
    Limit {
        /// Which list or value.
        what: &'static str,
        /// Its length.
        is: usize,
        /// The most that is taken.
        limit: usize,
    },
}

/// What a frame carries.
pub type Body = frame::Body;

/// The bytes of a frame with `body`, without a length prefix.
///
/// Errors when the result would be longer than [`MAX_FRAME_BYTES`]: the caller splits what it sends.
pub fn encode(version: u32, body: Body) -> Result<Bytes, FrameError> {
    let frame = Frame { version, body: Some(body) };
    let length = frame.encoded_len();
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    let mut bytes = BytesMut::with_capacity(length);
    frame.encode(&mut bytes).expect("the buffer has the encoded length");
    Ok(bytes.freeze())
}

/// Reads one whole frame and checks every limit that does not need state. Returns its version and body.
pub fn decode(bytes: Bytes) -> Result<(u32, Body), FrameError> {
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    let frame = Frame::decode(bytes).map_err(|e| FrameError::Malformed(e.to_string()))?;
    // Hello is read at any version, since it is what versions are negotiated with.
    let negotiates = matches!(frame.body, Some(Body::Hello(_)));
    if !negotiates && !(MIN_VERSION..=VERSION).contains(&frame.version) {
        return Err(FrameError::Version(frame.version));
    }
    let body = frame.body.ok_or_else(|| FrameError::Malformed("no body that this version knows".into()))?;
    check(&body)?;
    Ok((frame.version, body))
}

/// The version to speak with a peer that offers `min..=max`, or `None` when there is no common one.
pub fn negotiate(min: u32, max: u32) -> Option<u32> {
    let version = max.min(VERSION);
    (min <= max && version >= min && version >= MIN_VERSION).then_some(version)
}

/// What a device says in `Hello` of the list of revocations it holds, which must be in ascending order.
pub fn revocations_digest<'a>(devices: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    devices.into_iter().for_each(|device| hash.update(device));
    hash.finalize().into()
}

fn limit(what: &'static str, is: usize, limit: usize) -> Result<(), FrameError> {
    if is > limit { Err(FrameError::Limit { what, is, limit }) } else { Ok(()) }
}

fn check(body: &Body) -> Result<(), FrameError> {
    match body {
        Body::Hello(hello) => limit("heads", hello.intent_heads.len(), MAX_HEADS),
        Body::Welcome(welcome) => limit("heads", welcome.intent_heads.len(), MAX_HEADS),
        Body::IntentAck(ack) => limit("heads", ack.heads.len(), MAX_HEADS),
        Body::SiteAck(ack) => limit("heads", ack.heads.len(), MAX_HEADS),
        Body::Revocations(list) => {
            limit("revocations", list.devices.len(), MAX_REVOCATIONS)?;
            list.devices.iter().try_for_each(|device| limit("bytes of a device's id", device.len(), 16))
        }
        Body::ArtifactRequest(request) => limit("bases", request.bases.len(), MAX_BASES),
        Body::SiteChanges(site) => limit("site changes", site.changes.len(), MAX_SITE_CHANGES),
        Body::StatusDelta(delta) => {
            limit("status entries", delta.set.len() + delta.removed.len(), MAX_STATUS_ENTRIES)?;
            delta.set.iter().try_for_each(|e| limit("status entry bytes", e.path.len() + e.value.len(), MAX_STATUS_VALUE_BYTES))
        }
        Body::Telemetry(batch) => {
            limit("telemetry samples", batch.samples.len(), MAX_SAMPLES)?;
            limit("telemetry metrics", batch.names.len(), MAX_METRICS)?;
            batch.samples.iter().try_for_each(|s| limit("values of a sample", s.values.len(), batch.names.len()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ping(nonce: u64) -> Body {
        Body::Ping(Ping { nonce })
    }

    #[test]
    fn a_frame_reads_back() {
        assert_eq!(decode(encode(VERSION, ping(7)).unwrap()), Ok((VERSION, ping(7))));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_parsed() {
        let bytes = Bytes::from(vec![0xff; MAX_FRAME_BYTES + 1]);
        assert_eq!(decode(bytes), Err(FrameError::TooLarge(MAX_FRAME_BYTES + 1)));
    }

    #[test]
    fn an_unknown_version_is_named_except_in_hello() {
        let bytes = encode(99, ping(1)).unwrap();
        assert_eq!(decode(bytes), Err(FrameError::Version(99)));
        let hello = Body::Hello(Hello { min_version: 1, max_version: 99, ..Default::default() });
        assert!(decode(encode(99, hello).unwrap()).is_ok());
        assert_eq!((negotiate(1, 99), negotiate(98, 99), negotiate(2, 1)), (Some(VERSION), None, None));
    }

    #[test]
    fn a_list_of_revocations_is_bounded_in_length_and_in_what_it_holds() {
        let list = |devices| decode(encode(1, Body::Revocations(Revocations { devices })).unwrap()).map(drop);
        assert_eq!(list(vec![vec![1; 16].into(); MAX_REVOCATIONS]), Ok(()));
        assert!(matches!(list(vec![vec![1; 16].into(); MAX_REVOCATIONS + 1]), Err(FrameError::Limit { .. })));
        assert!(matches!(list(vec![vec![1; 17].into()]), Err(FrameError::Limit { .. })));
    }

    #[test]
    fn a_sample_with_more_values_than_names_is_refused() {
        let batch = Telemetry { samples: vec![Sample { seq: 1, time_us: 0, values: vec![1.0] }], ..Default::default() };
        assert!(matches!(decode(encode(1, Body::Telemetry(batch)).unwrap()), Err(FrameError::Limit { .. })));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode(Bytes::from(bytes));
        }
    }
}
