//! Where a device's update repository is and the root that it begins with, as its identity knows them.

use crate::identity::Identity;
use aidos_protocol::enrol::TrustAnchor;
use async_trait::async_trait;

/// What the guard needs to know of its device.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// The address of the tenant's repository, with a slash at its end; `None` before the control plane has told it.
    fn repository(&self) -> Option<String>;
    /// A client that trusts who serves `url`.
    fn client(&self, url: &str) -> Result<reqwest::Client, String>;
    /// The root that the device began with.
    fn anchor(&self) -> Option<String>;
    /// Takes a root to begin with, if the deployment's CA signed it. It is on disk when this returns, for ever.
    async fn take_anchor(&self, anchor: TrustAnchor) -> Result<(), String>;
    /// Returns when the repository may be another one.
    async fn changed(&self);
}

#[async_trait]
impl Origin for Identity {
    fn repository(&self) -> Option<String> {
        let endpoints = self.endpoints();
        let address = match endpoints.trust.as_str() {
            "" => return None,
            // The control plane may name a path of its own address.
            path if path.starts_with('/') => format!("{}{path}", endpoints.api_url.trim_end_matches('/')),
            url => url.to_owned(),
        };
        Some(format!("{}/", address.trim_end_matches('/')))
    }

    fn client(&self, url: &str) -> Result<reqwest::Client, String> {
        self.http_client_for(url).map_err(|error| error.to_string())
    }

    fn anchor(&self) -> Option<String> {
        Identity::anchor(self)
    }

    async fn take_anchor(&self, anchor: TrustAnchor) -> Result<(), String> {
        Identity::take_anchor(self, anchor).await.map_err(|error| error.to_string())
    }

    async fn changed(&self) {
        Identity::changed(self).await;
    }
}
