//! Finding neighbours by mDNS, and being found.
//!
//! What is announced can be read by everybody on the network: a random-looking id of the device, a port, and eight characters of a
//! digest of the tenant's id, so that tenants on one network do not dial each other in vain. What is found is a hint; a
//! certificate decides.

use super::Shared;
use aidos_protocol::artifact::Digest;
use mdns_sd::{IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::net::{IpAddr, SocketAddr};
use tokio_util::sync::CancellationToken;

const SERVICE: &str = "_aidos._tcp.local.";
const TENANT: &str = "t";

pub(super) async fn run(shared: &Shared, address: SocketAddr, stop: CancellationToken) -> Result<(), String> {
    let failed = |error: mdns_sd::Error| format!("mDNS: {error}; set `neighbours.mdns = false` and name `neighbours.peers`");
    let daemon = ServiceDaemon::new().map_err(failed)?;
    // Bound to one interface, nothing is said on the others.
    if !address.ip().is_unspecified() {
        daemon.disable_interface(IfKind::All).map_err(failed)?;
        daemon.enable_interface(IfKind::Addr(address.ip())).map_err(failed)?;
    }
    let name = shared.identity.device_id().to_string().replace('_', "-");
    let tenant = tenant(&shared.identity.tenant_id().to_string());
    let (host, properties) = (format!("{name}.local."), [(TENANT, tenant.as_str())]);
    // Bound to every interface, it is announced on every one with its address there.
    let info = if address.ip().is_unspecified() {
        ServiceInfo::new(SERVICE, &name, &host, "", address.port(), &properties[..]).map(ServiceInfo::enable_addr_auto)
    } else {
        ServiceInfo::new(SERVICE, &name, &host, address.ip(), address.port(), &properties[..])
    };
    let info = info.map_err(failed)?;
    let own = info.get_fullname().to_owned();
    daemon.register(info).map_err(failed)?;
    let found = daemon.browse(SERVICE).map_err(failed)?;
    let ended = loop {
        match stop.run_until_cancelled(found.recv_async()).await {
            None => break Ok(()),
            Some(Ok(ServiceEvent::ServiceResolved(service))) if service.get_fullname() != own => {
                addresses(&service, &tenant).for_each(|address| shared.named(address));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => break Err("mDNS has ended; see the log".to_owned()),
        }
    };
    // Says goodbye, so that others do not look for this agent in vain; nobody waits for it.
    let _ = daemon.unregister(&own);
    let _ = daemon.shutdown();
    ended
}

/// Eight characters that tell tenants apart and name none.
fn tenant(id: &str) -> String {
    Digest::of(id.as_bytes()).hex()[..8].to_owned()
}

/// Where a service of the same tenant is. An address that needs an interface's name beside it is left out: it cannot be dialled
/// as it stands, and there is another.
fn addresses<'a>(service: &'a ResolvedService, tenant: &str) -> impl Iterator<Item = SocketAddr> + 'a {
    let ours = service.get_property_val_str(TENANT) == Some(tenant);
    let dialled = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let all = service.get_addresses().iter().map(|ip| ip.to_ip_addr()).filter(dialled);
    all.filter(move |_| ours).map(|ip| SocketAddr::new(ip, service.get_port()))
}
