//! Sending a file to the registry: resumable, in chunks, from where the control plane says it stands.

use crate::client::{Client, refusal};
use crate::error::CliError;
use crate::progress::Transfer;
use aidos_protocol::api::artifacts::{ArtifactView, CreateUpload, MAX_CHUNK_BYTES, UPLOAD_OFFSET, UploadView};
use aidos_protocol::artifact::{Digest, Digester};
use reqwest::{Method, StatusCode};
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

/// A chunk may meet a dropped connection or another offset this often before the upload is given up; it can be resumed later.
const MAX_TRIES: u32 = 8;

/// SHA-256 and size of a file.
pub(crate) async fn digest(path: &Path) -> Result<(Digest, u64), CliError> {
    let unreadable = |e: std::io::Error| unreadable(path, &e);
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let (mut digester, mut size) = (Digester::default(), 0u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).await.map_err(unreadable)?;
        if read == 0 {
            return Ok((digester.finish(), size));
        }
        digester.update(&buffer[..read]);
        size += read as u64;
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Usage(format!("{}: {error}; name a file that you may read", path.display()))
}

/// Sends `path`; bytes that the tenant already has are not sent again. Returns the artifact's digest.
pub(crate) async fn upload(client: &Client, path: &Path) -> Result<Digest, CliError> {
    let (digest, size) = digest(path).await?;
    let upload: UploadView = client.post("uploads", &CreateUpload { digest, size }).await?;
    let Some(id) = upload.id.filter(|_| !upload.done) else {
        return Ok(digest);
    };
    let bar = Transfer::new("uploading", size);
    let unreadable = |e: std::io::Error| unreadable(path, &e);
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut offset = upload.offset;
    let mut tries = 0;
    while offset < size {
        bar.at(offset);
        file.seek(SeekFrom::Start(offset)).await.map_err(unreadable)?;
        let mut chunk = Vec::with_capacity(MAX_CHUNK_BYTES.min((size - offset) as usize));
        (&mut file).take(MAX_CHUNK_BYTES as u64).read_to_end(&mut chunk).await.map_err(unreadable)?;
        let patch = client.request(Method::PATCH, &format!("uploads/{id}")).header(UPLOAD_OFFSET, offset).body(chunk);
        match patch.send().await {
            Ok(response) if response.status().is_success() => {
                offset = response.json::<UploadView>().await.map_err(anyhow::Error::from)?.offset;
                tries = 0;
            }
            Ok(response) if response.status() == StatusCode::CONFLICT && tries < MAX_TRIES => {
                tries += 1;
                offset = client.get::<UploadView>(&format!("uploads/{id}")).await?.offset;
            }
            Ok(response) => return Err(refusal(response).await),
            Err(_) if tries < MAX_TRIES => {
                tries += 1;
                offset = client.get::<UploadView>(&format!("uploads/{id}")).await?.offset;
            }
            Err(error) => {
                return Err(CliError::failed(
                    format!("the upload stopped at {offset} of {size} bytes: {error}"),
                    "run it again: it resumes",
                ));
            }
        }
    }
    bar.at(size);
    bar.finish();
    let artifact: ArtifactView = client.json(client.request(Method::POST, &format!("uploads/{id}/complete"))).await?;
    Ok(artifact.digest)
}
