//! Rows as the API shows them.

use super::store::{KeyRow, TenantRow};
use aidos_protocol::api::keys::KeyView;
use aidos_protocol::api::tenants::TenantView;

pub(super) fn tenant_view(row: TenantRow) -> TenantView {
    TenantView { id: row.id, name: row.name, root: row.root, created_at: row.created }
}

pub(super) fn key_view(row: KeyRow) -> KeyView {
    KeyView {
        id: row.id,
        name: row.name,
        role: row.role,
        hint: row.hint,
        created_at: row.created,
        created_by: row.created_by,
        expires_at: row.expires,
        revoked_at: row.revoked,
        last_used_at: row.last_used,
    }
}
