//! `/api/v1/installation`: how a control plane was set up, for those who run it. It holds no secret.

use crate::enrol::EndpointsView;
use serde::{Deserialize, Serialize};

/// How a control plane was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstallationView {
    /// The control plane's version.
    pub server_version: String,
    /// What keeps rows.
    pub database: Database,
    /// What keeps files.
    pub objects: ObjectsView,
    /// Where people and devices are told to reach it.
    pub endpoints: EndpointsView,
    /// What it takes at most.
    pub limits: LimitsView,
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    /// A file beside the control plane.
    Sqlite,
    /// A server.
    Postgres,
}

/// What keeps files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ObjectsView {
    /// The folder or the bucket.
    pub store: String,
    /// Whether devices fetch from it directly, by URLs that it signs; else through the control plane.
    pub presigned: bool,
}

/// What a control plane takes at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LimitsView {
    /// Bytes of a model.
    pub model_bytes: u64,
    /// Bytes of any other artifact.
    pub artifact_bytes: u64,
    /// Bytes of one piece of an upload.
    pub upload_chunk_bytes: u64,
    /// Bytes of another request's body.
    pub request_bytes: u64,
    /// Items of one page of a list.
    pub page_items: u32,
    /// Devices that one join token lets in.
    pub token_uses: u32,
}
