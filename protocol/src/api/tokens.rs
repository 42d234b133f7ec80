//! Join tokens: `/api/v1/tokens`. The token's text appears in exactly one answer, that of its creation.

use crate::{TokenId, time::Micros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most devices one token lets in.
pub const MAX_USES: u32 = 100_000;
/// The shortest life of a token, in seconds: less than a person needs to type it.
pub const MIN_TTL_S: u64 = 60;
/// The longest life of a token, in seconds: 90 days, a hardware batch's way from factory to site.
pub const MAX_TTL_S: u64 = 90 * 24 * 3_600;

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// How many devices may join with it, 1 to [`MAX_USES`].
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 100_000, default = 1)]
    pub uses: u32,
    /// Its life in seconds, [`MIN_TTL_S`] to [`MAX_TTL_S`].
    #[serde(default = "hour")]
    #[schema(minimum = 60, maximum = 7_776_000, default = 3_600)]
    pub ttl_s: u64,
    /// Labels that every device gets that joins with it; they win over the device's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}
fn hour() -> u64 {
    3_600
}

impl Default for CreateToken {
    fn default() -> Self {
        Self { uses: one(), ttl_s: hour(), labels: BTreeMap::new() }
    }
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// Whether a device can still join with it.
    pub state: TokenState,
    /// How many devices may join with it.
    pub uses: u32,
    /// How many did.
    pub used: u32,
    /// Labels that every device gets that joins with it.
    pub labels: BTreeMap<String, String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Micros,
    /// When it ends.
    pub expires_at: Micros,
    /// When a device joined with it last.
    pub last_used_at: Option<Micros>,
}

/// Whether a device can still join with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It can.
    Active,
    /// All its uses are spent.
    UsedUp,
    /// Its time is over.
    Expired,
}

/// The answer to [`CreateToken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedToken {
    /// The token's text. It is not stored and cannot be shown again.
    pub token: String,
    /// The line to run on each device.
    pub command: String,
    /// The token as it is listed.
    #[serde(flatten)]
    pub view: TokenView,
}
