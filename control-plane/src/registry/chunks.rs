//! Artifacts in chunks: made once in the background, then offered with each grant, so that a device takes what it lacks and
//! checks each piece as it comes.
//!
//! Invariant: a row says `ready` only after its list and its packed object are stored.

use super::artifacts::Artifacts;
use super::builds::{GIVEN_UP_AFTER, MAKER, again_after, on_thread, stale_before};
use super::error::RegistryError;
use super::store::artifacts::ArtifactRow;
use super::store::chunks::{self as store, Standing};
use aidos_protocol::artifact::{self, Digest, Recipe};
use aidos_protocol::{TenantId, frame};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};

/// Artifacts from this size on travel in chunks: a smaller one is sent again as soon as its list is read.
pub(super) const CHUNKED_FROM: u64 = 1 << 20;

impl Artifacts {
    /// The chunks of an artifact, where there are some; else they are asked for.
    pub(super) async fn chunks_of(
        &self,
        tenant: TenantId,
        artifact: &ArtifactRow,
    ) -> Result<Option<frame::ArtifactChunks>, RegistryError> {
        if artifact.size < CHUNKED_FROM {
            return Ok(None);
        }
        match store::chunked(self.db.pool(), tenant, &artifact.digest).await? {
            Standing::Ready(row) => Ok(Some(frame::ArtifactChunks {
                recipe: Bytes::copy_from_slice(row.recipe.as_bytes()),
                recipe_size: row.recipe_size,
                recipe_url: self.locate(tenant, &row.recipe).await?.0,
                packed_url: self.locate(tenant, &row.packed).await?.0,
            })),
            Standing::Absent => Ok(None),
            Standing::Unknown => {
                // Of a time before chunks were made.
                let mut tx = self.db.begin().await?;
                store::ask(&mut tx, tenant, &artifact.digest, self.clock.now()).await?;
                tx.commit().await?;
                self.builds.wake();
                Ok(None)
            }
        }
    }

    /// The list of an artifact's chunks.
    pub(super) async fn recipe(&self, tenant: TenantId, digest: &Digest) -> Result<Option<Recipe>, RegistryError> {
        let Standing::Ready(row) = store::chunked(self.db.pool(), tenant, digest).await? else { return Ok(None) };
        let bytes = self.whole(tenant, &row.recipe, row.recipe_size).await?;
        Recipe::decode(&bytes).map(Some).map_err(|error| RegistryError::Build(error.to_string()))
    }

    /// Makes the chunks of the artifact that has waited longest. Returns whether there was one.
    pub(super) async fn chunk_one(&self) -> Result<bool, RegistryError> {
        let now = self.clock.now();
        let stale = stale_before(now);
        let Some(tenant) = store::waiting(self.db.pool(), now, stale).await? else { return Ok(false) };
        let mut tx = self.db.begin().await?;
        let claimed = store::claim(&mut tx, tenant, now, stale, GIVEN_UP_AFTER).await?;
        tx.commit().await?;
        let Some(digest) = claimed else { return Ok(true) };
        match self.chunk(tenant, &digest).await {
            Ok((recipe, packed)) => {
                let mut tx = self.db.begin().await?;
                store::ready(&mut tx, tenant, &digest, (&recipe, &packed), self.clock.now()).await?;
                tx.commit().await?;
                tracing::info!(%tenant, %digest, "an artifact can be fetched in chunks");
            }
            Err(error) => {
                tracing::warn!(%tenant, %digest, error = &error as &dyn std::error::Error, "an artifact was not cut into chunks");
                let mut tx = self.db.begin().await?;
                store::failed(&mut tx, tenant, &digest, again_after(self.clock.now()), &error.to_string()).await?;
                tx.commit().await?;
            }
        }
        Ok(true)
    }

    /// Stores list and packed object; their digests.
    async fn chunk(&self, tenant: TenantId, digest: &Digest) -> Result<(Digest, Digest), RegistryError> {
        let size = self.get(tenant, digest).await?.size;
        let source = self.builds.scratch()?;
        self.copy_out(tenant, digest, size, source.path()).await?;
        let packed = self.builds.scratch()?;
        let (from, to, wanted) = (source.path().to_owned(), packed.path().to_owned(), *digest);
        let recipe = on_thread("chunks", move || {
            let mut packed = BufWriter::new(File::create(&to)?);
            let recipe = artifact::pack(BufReader::new(File::open(&from)?), &mut packed);
            let recipe = recipe.map_err(|error| RegistryError::Build(error.to_string()))?;
            packed.flush()?;
            // The store may have given other bytes than it took.
            recipe.expect(&wanted, size).map_err(|error| RegistryError::Build(error.to_string()))
        })
        .await?;
        let now = self.clock.now();
        self.put_file(tenant, MAKER, recipe.object(), recipe.packed_size(), packed.path(), now).await?;
        let list = self.put(tenant, MAKER, &recipe.encode(), now).await?;
        Ok((list, *recipe.object()))
    }
}
