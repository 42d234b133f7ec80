//! The twin of a device: two documents by writer. *Intent* (many writers, automerge) and *status* (one writer, a versioned map).
//!
//! Intent holds what people want: never telemetry, progress, counters or logs, whose history would grow it without bound.
//! Nothing here asks a clock, touches a disk or trusts a byte: whatever came from outside is bounded before automerge sees it
//! ([`bound`]) and authorised operation by operation before it is merged ([`authorise`]).
//!
//! The way of a change: a person's [`Edit`]s become one automerge change by an [`Author`] ([`Intent::edit`]); the other side
//! tells its heads and gets what it lacks ([`Intent::changes_since`]); when history has outgrown the state, the plane begins a
//! new epoch ([`Intent::compact`]), and an edit that was made on the old one is merged there first and then replayed
//! ([`Intent::replay`]).

pub mod author;
pub mod authorise;
pub mod bound;
pub mod edit;
mod epoch;
pub mod health;
mod intent;
pub mod path;
pub mod release;
mod report;
pub mod sign;
mod status;
mod view;

pub use author::{Author, valid_user};
pub use authorise::{Authority, Refusal};
pub use bound::BoundError;
pub use edit::{DesiredModel, Edit, EditError, MAX_EDITS, Room};
pub use epoch::Replay;
pub use health::{Health, HealthReport, Measures, SelfTestReport, SignedHealth};
pub use intent::{ApplyError, ChangeHash, FIRST_EPOCH, Intent, IntentError, MAX_CONTENT_BYTES, SiteChange};
pub use release::{AGENT_CONFIG, AGENT_RELEASE, DesiredRelease, ReleaseBinary, ReleaseError};
pub use report::{
    ComponentState, ComponentStatus, DrainStatus, IntentStatus, LinkStatus, ModelState, ModelStatus, ReleaseState, ReleaseStatus,
    SettingsState, SettingsStatus, Transfer, TrustState, TrustStatus, Way,
};
pub use status::{MAX_PATH_BYTES, MAX_STATUS_BYTES, Status, StatusError, StatusMirror, Verdict, check_delta, judge};
pub use view::{Conflict, IntentView, LosingValue};
