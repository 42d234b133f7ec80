//! The device's side of one session: from `Hello` to `Goodbye`.
//!
//! [`machine`] decides, without I/O or clock; [`driver`] moves frames and calls the ports. Whatever a session could not finish
//! is still in its port and begins again with the next one: nothing is remembered here.

mod driver;
mod flow;
mod machine;

pub(super) use driver::{Context, refuse, run};
pub(super) use machine::End;
