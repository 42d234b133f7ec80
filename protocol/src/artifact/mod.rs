//! Artifacts: immutable bytes that are named by their digest, and the chunks in which they travel.
//!
//! Message flow: the plane cuts an artifact into chunks ([`Chunker`]), packs each on its own ([`pack`]) and keeps the list of
//! them ([`Recipe`]). A device takes the chunks that it holds from its own files, fetches the others as ranges of the packed
//! object, checks each ([`unpack`]) and then the whole. Nothing here decides where bytes come from.

mod chunking;
mod digest;
mod packing;
mod recipe;
#[cfg(test)]
mod tests;

pub use chunking::{Chunker, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
pub use digest::{Digest, DigestError, Digester, MAX_ARTIFACT_BYTES};
pub use packing::{PackError, UnpackError, pack, unpack};
pub use recipe::{Chunk, MAX_CHUNKS, MAX_RECIPE_BYTES, Recipe, RecipeError};
