//! The ground that the rooms stand on: database, objects, certificates, clock, tasks, HTTP. It must know no domain: nothing
//! here names a device, a model or a deployment beyond their ids.

pub(crate) mod clock;
pub(crate) mod db;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod objects;
pub(crate) mod pki;
pub(crate) mod private_file;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod testing;
